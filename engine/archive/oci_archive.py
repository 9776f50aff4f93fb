"""Reading of archives with an OCI image layout: `oci-layout`, `index.json` and `blobs/`.

They are read as containerd's importer reads them: names come from the annotations, and an index may
lack some of its platforms. A `manifest.json` in the same archive names images that have no name in
`index.json`, and adds the images that `index.json` does not list.

An archive has to hold at least one image or artifact. All other entries of `index.json`
(attestations, build caches, an empty index) are loaded if they are complete, and reported as left
out if not. An entry without a name that is part of another entry is not an image of its own.
"""

from collections.abc import Container, Iterable, Mapping, Sequence
from contextlib import suppress

import msgspec

from engine import graph as walk
from engine.archive import docker_archive
from engine.archive.archive_graphs import ArchiveGraphs, Key, key_of
from engine.archive.archive_image import ArchiveImage, Inventory, LeftOut, check_count
from engine.archive.archive_names import docker_names, oci_names, oci_tag
from engine.archive.members import Members
from engine.compression.options import Compression
from engine.errors import (
    BrokenArchive,
    ContentMismatch,
    EngineError,
    InvalidDocument,
    InvalidInput,
    MissingMember,
)
from engine.spec import docker, go_json, oci
from engine.spec.oci import Descriptor, ImageLayout

LAYOUT, INDEX = oci.LAYOUT_FILE, oci.INDEX_FILE


def is_oci(members: Members) -> bool:
    """Return whether the archive has an `oci-layout` that states a version.

    Raise BrokenArchive for an unsupported version.
    """
    if not members.has(LAYOUT):
        return False
    layout = go_json.decode(members.document(LAYOUT), ImageLayout, LAYOUT)
    if layout.image_layout_version not in ("", oci.LAYOUT_VERSION):
        raise BrokenArchive(
            LAYOUT,
            f"expected version {oci.LAYOUT_VERSION}, found {layout.image_layout_version}",
        )
    return bool(layout.image_layout_version)


def read(
    members: Members,
    most: int,
    graphs: ArchiveGraphs,
    compression: Compression | None = None,
) -> Inventory:
    """Return the images of an OCI archive in the order of `index.json`, on the platforms of
    `graphs`.

    Plain layers of images that only `manifest.json` names are compressed if `compression` is set.
    Raise LimitExceeded for more than `most` images; MissingMember, BrokenArchive or InvalidDocument
    for an archive without an image; and the errors of `check_image`.
    """
    if not members.has(INDEX):
        raise MissingMember(
            INDEX, f"is missing from the archive, {LAYOUT} {oci.LAYOUT_VERSION} needs it"
        )
    index = oci.parse_index(members.document(INDEX), INDEX)
    entries = [_Entry(e, _without_names(e)) for e in index.manifests if _is_document(e)]
    strange = tuple(_strange(e) for e in index.manifests if not _is_document(e))
    if not entries and members.has(docker.MANIFEST_FILE):
        only = docker_archive.read(members, most, compression)
        return Inventory(only.found, strange)
    check_count(len(entries), most)
    usable_graphs, failures = _usable(graphs, entries)
    usable = [entry for entry in entries if entry.key in usable_graphs]
    wholes = [graphs.whole(graph.root) for graph in usable_graphs.values()]
    below = {blob.digest for whole in wholes for blob in _below(whole)}
    items, unreadable = _items(members)
    named = _named(usable, usable_graphs, below, _tags(members, items))
    taken = {name for one in named for name in one.names}
    added, incomplete = _only_in_manifest_json(members, items, wholes, compression)
    found = (*named, *(_without(one, taken) for one in added))
    check_count(sum(len(one.names) or 1 for one in found), most)
    if not added and not any(whole.has_content for whole in wholes):
        raise _nothing(list(failures.values()), usable_graphs.values(), strange)
    lost = [
        LeftOut.because(entry.called, failures[entry.key])
        for entry in entries
        if entry.key in failures and (entry.is_named or entry.target.digest not in below)
    ]
    taken.update(name for one in added for name in one.names)
    left_out = dict.fromkeys((*strange, *lost, *unreadable, *incomplete))
    return Inventory(found, tuple(one for one in left_out if one.name not in taken))


class _Entry(msgspec.Struct, frozen=True):
    """A manifest or index in `index.json`; `target` is the descriptor that an image keeps of it."""

    entry: Descriptor
    target: Descriptor

    @property
    def key(self) -> Key:
        """The key of the graph below the target."""
        return key_of(self.target)

    @property
    def names(self) -> tuple[str, ...]:
        return oci_names(self.entry)

    @property
    def tag(self) -> str:
        return oci_tag(self.entry)

    @property
    def is_named(self) -> bool:
        return bool(self.names or self.tag)

    @property
    def called(self) -> str:
        """The name of the entry in messages."""
        return next(iter(self.names), self.tag) or self.target.digest


def _is_document(entry: Descriptor) -> bool:
    return oci.is_document_type(entry.media_type)


def _strange(entry: Descriptor) -> LeftOut:
    kind = entry.media_type or "not given"
    called = next(iter(oci_names(entry)), oci_tag(entry)) or entry.digest
    return LeftOut(called, f"expected a manifest or an index, its media type is {kind}")


def _without_names(entry: Descriptor) -> Descriptor:
    """Return the target of an image: the entry without its names and its platform.

    The image has the names, and its config has the platform.
    """
    annotations = {
        k: v for k, v in entry.annotations.items() if k not in (oci.IMAGE_NAME, oci.REF_NAME)
    }
    return msgspec.structs.replace(entry, annotations=annotations, platform=None)


def _usable(
    graphs: ArchiveGraphs, entries: Iterable[_Entry]
) -> tuple[dict[Key, walk.Graph], dict[Key, EngineError]]:
    """Return the graphs of the usable entries, and the errors of the others, by key.

    Raise ContentMismatch or InvalidDocument for content that is present and wrong.
    """
    usable: dict[Key, walk.Graph] = {}
    failures: dict[Key, EngineError] = {}
    for entry in entries:
        if entry.key in usable or entry.key in failures:
            continue
        match graphs.usable(entry.target, INDEX):
            case walk.Graph() as graph:
                usable[entry.key] = graph
            case error:
                failures[entry.key] = error
    return usable, failures


def _below(whole: walk.Graph) -> list[Descriptor]:
    """Return the descriptors below the root, whether the blobs are present or absent."""
    return [b for b in (*whole.blobs, *whole.missing) if b.digest != whole.root.digest]


def _named(
    entries: Sequence[_Entry],
    graphs: Mapping[Key, walk.Graph],
    below: Container[str],
    tags: Mapping[str, tuple[str, ...]],
) -> list[ArchiveImage]:
    """Return the entries with their own names, or else with those that `manifest.json` gives.

    A name that another entry has is not used again; an index takes precedence over its parts. An
    entry that has no name then and is already listed or part of an index is omitted.
    """
    names = {n: entry.names for n, entry in enumerate(entries)}
    taken = {name for some in names.values() for name in some}
    for n, entry in sorted(enumerate(entries), key=lambda item: item[1].target.digest in below):
        if not names[n]:
            images = graphs[entry.key].complete_images
            given = (
                name for image in images for name in tags.get(image.manifest.config.digest, ())
            )
            names[n] = tuple(dict.fromkeys(name for name in given if name not in taken))
            taken.update(names[n])
    known = {entry.target.digest for n, entry in enumerate(entries) if names[n] or entry.tag}
    found = []
    for n, entry in enumerate(entries):
        digest = entry.target.digest
        if names[n] or entry.tag or not (digest in known or digest in below):
            graph = msgspec.structs.replace(graphs[entry.key], root=entry.target)
            found.append(ArchiveImage(names[n], graph, entry.tag))
            known.add(digest)
    return found


def _without(found: ArchiveImage, taken: Container[str]) -> ArchiveImage:
    names = tuple(name for name in found.names if name not in taken)
    return msgspec.structs.replace(found, names=names)


def _nothing(
    failures: Sequence[EngineError], graphs: Iterable[walk.Graph], strange: Sequence[LeftOut]
) -> EngineError:
    """Return the error for an archive that has neither an image nor an artifact."""
    for error in failures:
        return error
    for graph in graphs:
        return InvalidDocument(f"index {graph.root.digest}", "names no image")
    reasons = "".join(f"; {one.name}: {one.reason}" for one in strange)
    return BrokenArchive(INDEX, f"names no image{reasons}")


# -- the manifest.json of an OCI archive ---------------------------------------------------------


def _items(members: Members) -> tuple[list[docker.ManifestItem], tuple[LeftOut, ...]]:
    """Return the items of `manifest.json`; none, and a `LeftOut`, if it is unreadable."""
    if not members.has(docker.MANIFEST_FILE):
        return [], ()
    try:
        document = members.document(docker.MANIFEST_FILE)
        if document.strip() in (b"null", b"[]"):
            return [], ()
        return docker.parse_manifest_json(document), ()
    except (InvalidInput, ContentMismatch) as error:
        return [], (LeftOut.because(docker.MANIFEST_FILE, error),)


def _tags(members: Members, items: Iterable[docker.ManifestItem]) -> dict[str, tuple[str, ...]]:
    """Return the names that `manifest.json` gives to configs that are present, by config digest."""
    tags: dict[str, tuple[str, ...]] = {}
    for item in items:
        with suppress(InvalidInput, ContentMismatch):  # `_only_in_manifest_json` reports it
            config = members.find(item.config).digest
            tags[config] = tags.get(config, ()) + docker_names(item)
    return tags


def _only_in_manifest_json(
    members: Members,
    items: Iterable[docker.ManifestItem],
    wholes: Iterable[walk.Graph],
    compression: Compression | None,
) -> tuple[list[ArchiveImage], list[LeftOut]]:
    """Return the images that only `manifest.json` names, and those that cannot be loaded."""
    known = {i.manifest.config.digest for whole in wholes for i in whole.complete_images}
    found, left_out = [], []
    for item in items:
        called = next(iter(item.repo_tags or ()), item.config)
        try:
            called = next(iter(docker_names(item)), called)
            if members.find(item.config).digest not in known:
                found.append(docker_archive.image(members, item, compression))
        except (InvalidInput, ContentMismatch) as error:
            left_out.append(LeftOut.because(called, error))
    return found, left_out

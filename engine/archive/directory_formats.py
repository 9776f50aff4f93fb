"""Reading of the images in a directory: an OCI layout, an unpacked docker archive, or what skopeo's
`dir:` transport writes.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Final

from engine.archive import dir_transport, docker_archive, legacy_archive, oci_archive
from engine.archive.archive_graphs import ArchiveGraphs
from engine.archive.archive_image import Inventory
from engine.archive.members import MemberNames, Members
from engine.compression.options import Compression
from engine.errors import BrokenArchive, InvalidDocument, MissingMember
from engine.spec import docker, oci
from engine.spec.oci import Descriptor

DOCUMENTS: Final = (
    oci_archive.LAYOUT,
    oci_archive.INDEX,
    docker.MANIFEST_FILE,
    dir_transport.VERSION_FILE,
)
"""The files that make a directory one that images are read from."""


def read_growing(
    members: Members, most: int, graphs: ArchiveGraphs, compression: Compression | None
) -> Inventory:
    """Return the images of a directory whose files arrive in any order.

    Raise MissingMember while files are missing that decide what the directory is, and the errors of
    the formats.
    """
    if members.has(oci_archive.LAYOUT) or members.has(oci_archive.INDEX):
        if _is_new(members):
            raise MissingMember(oci_archive.INDEX, "names no image yet")
        return _read_oci(members, most, graphs, compression)
    document = members.document(docker.MANIFEST_FILE)
    if dir_transport.is_dir_transport(members):
        return dir_transport.read(members, graphs)
    if document.lstrip()[:1] == b"{":
        raise MissingMember(dir_transport.VERSION_FILE, "is missing from the directory")
    items = docker.parse_manifest_json(document)
    if any(path.startswith("blobs/") for item in items for path in (item.config, *_layers(item))):
        # The OCI layout of the same image has other digests than what is made of manifest.json.
        raise MissingMember(
            oci_archive.LAYOUT, "is missing from the directory", (oci_archive.INDEX,)
        )
    _check_all_there(members, items)
    return docker_archive.read(members, most, compression)


def read_entries(
    members: Members, entries: Sequence[Descriptor], most: int, graphs: ArchiveGraphs
) -> Inventory:
    """Return the images of these entries of the `index.json` of a layout that has been read
    before; raise as `read_growing` does.
    """
    index = oci.Index(schema_version=2, manifests=tuple(entries))
    names = MemberNames()
    raw = members.add(oci_archive.INDEX, oci.render(index)).raw
    names.put(oci_archive.INDEX, raw)
    try:
        return oci_archive.read(Members(names, members.pool), most, graphs)
    finally:
        members.pool.remove(raw)


def read_whole(
    members: Members, most: int, graphs: ArchiveGraphs, compression: Compression | None
) -> Inventory:
    """Return the images of a directory to which no file will be added; raise as `read_growing`
    does.
    """
    if members.has(oci_archive.LAYOUT) and members.has(oci_archive.INDEX):
        return _read_oci(members, most, graphs, compression)
    if dir_transport.is_dir_transport(members):
        return dir_transport.read(members, graphs)
    if members.has(docker.MANIFEST_FILE):
        return docker_archive.read(members, most, compression)
    if members.has(docker.REPOSITORIES_FILE):
        return legacy_archive.read(members, most, compression)
    wanted = f"{oci_archive.LAYOUT} and {oci_archive.INDEX}, or {docker.MANIFEST_FILE}"
    raise BrokenArchive("directory", f"holds no image: expected {wanted}")


def needed_files(members: Members) -> Iterator[Sequence[str]]:
    """Yield, in groups, the paths of the files that an unpacked docker archive needs; some may be
    there already.

    The files of a group tell what the next one is: they have to be received in between. Raise what
    `read_whole` raises for what they hold.
    """
    is_oci = members.has(oci_archive.LAYOUT) and members.has(oci_archive.INDEX)
    if is_oci or dir_transport.is_dir_transport(members):
        return
    if members.has(docker.MANIFEST_FILE):
        items = docker.parse_manifest_json(members.document(docker.MANIFEST_FILE))
        yield [item.config for item in items if item.config]
        yield docker_archive.unstored_layers(members, items)
    elif members.has(docker.REPOSITORIES_FILE):
        yield from legacy_archive.needed_files(members)


def _read_oci(
    members: Members, most: int, graphs: ArchiveGraphs, compression: Compression | None
) -> Inventory:
    for name in (oci_archive.LAYOUT, oci_archive.INDEX):
        if not members.has(name):
            raise MissingMember(name, "is missing from the directory")
    if not oci_archive.is_oci(members):
        raise InvalidDocument(oci_archive.LAYOUT, "expected imageLayoutVersion, found none")
    return oci_archive.read(members, most, graphs, compression)


def _is_new(members: Members) -> bool:
    """Return whether this is a layout as umoci and crane begin it: with an empty index."""
    if not members.has(oci_archive.INDEX) or members.has(docker.MANIFEST_FILE):
        return False
    index = oci.parse_index(members.document(oci_archive.INDEX), oci_archive.INDEX)
    return not index.manifests


def _layers(item: docker.ManifestItem) -> tuple[str, ...]:
    return item.layers or ()


def _check_all_there(members: Members, items: list[docker.ManifestItem]) -> None:
    """Raise MissingMember with all files that `manifest.json` names and that are missing."""
    named: Mapping[str, None] = dict.fromkeys(
        path for item in items for path in (item.config, *_layers(item)) if path
    )
    missing = [path for path in named if not _is_there(members, path)]
    if missing:
        raise MissingMember(missing[0], "is missing from the directory", tuple(missing[1:]))


def _is_there(members: Members, path: str) -> bool:
    """Return whether a file is there; tar makes an empty one in the place of a later symlink."""
    try:
        return members.find(path).size > 0
    except MissingMember:
        return False

"""The layout of docker save since version 25, for images in a graph driver.

Layers are uncompressed and named by their diff IDs; manifests and v1 configs (one per layer) are
created for the archive. `manifest.json` has an item per image, `index.json` an entry per name (or
one without a name for an untagged image), and `repositories` the names. An image is identified by
its config: two manifests with one config are one image. Of an index only the best match is
included.

Times are 1970, except those of blobs and directories, which are the time of their image: the first
one for a blob of several images, the last one for directories. (In docker's own archives
`blobs/sha256/` has the time of the export, as does `index.json` up to 28.) docker omits untagged
images after the first from `index.json`, and its order of images is undefined; here all images are
included, in the requested order.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import Final

import msgspec

from engine.errors import NotAnImage
from engine.graph import Blobs, ImageManifest
from engine.image import PARENT_LABEL, Image
from engine.layouts.docker_image import DockerImage, docker_image
from engine.layouts.entry import Entry
from engine.layouts.selection import Selection
from engine.spec import docker, go_json, oci, reference
from engine.spec.docker import LayerSource, ManifestItem
from engine.spec.oci import Descriptor
from engine.spec.reference import Reference

_LAYOUT: Final = b'{"imageLayoutVersion": "1.0.0"}'


class Options(Selection, frozen=True):
    """The selection of manifests."""


class _Named(msgspec.Struct, frozen=True):
    """An image, its names, and the ID of its parent image, "" for none."""

    image: DockerImage
    names: tuple[Reference, ...]
    parent: str


def layout(
    images: Sequence[Image],
    blobs: Blobs,
    uncompressed_size: Callable[[str], int],
    options: Options,
) -> tuple[Entry, ...]:
    """Return the entries of one archive with these images, sorted by path.

    `uncompressed_size` returns the number of uncompressed bytes of a stored layer. Raise
    NotExportable for an image that docker would not save, and the errors of `docker_image`,
    `Selection.graph` and `Selection.described`.
    """
    named = _named(images, blobs, uncompressed_size, options)
    blob_entries: dict[str, Entry] = {}
    for one in named:
        for entry in one.image.blobs:
            blob_entries.setdefault(entry.path, entry)
    documents = {
        oci.LAYOUT_FILE: _LAYOUT,
        oci.INDEX_FILE: oci.render(_index(named)),
        docker.MANIFEST_FILE: docker.render_manifest_json(_items(named)) + b"\n",
    }
    if repositories := _repositories(named):
        documents[docker.REPOSITORIES_FILE] = go_json.dumps(repositories) + b"\n"
    directories = {path.rpartition("/")[0] for path in blob_entries} | {"blobs"}
    entries = [
        *(Entry.directory(path, named[-1].image.mtime) for path in directories if named),
        *blob_entries.values(),
        *(Entry.file(path, 0o644, 0, data) for path, data in documents.items()),
    ]
    return tuple(sorted(entries, key=lambda entry: entry.path))


def _named(
    images: Sequence[Image],
    blobs: Blobs,
    uncompressed_size: Callable[[str], int],
    options: Options,
) -> list[_Named]:
    """Return each image once, with its names."""
    manifests: dict[str, ImageManifest] = {}
    made: dict[str, DockerImage] = {}
    names: dict[str, dict[Reference, None]] = {}
    parents: dict[str, str] = {}
    for image in images:
        manifest = manifests.get(image.target.digest) or _manifest(image, blobs, options)
        manifests[image.target.digest] = manifest
        image_id = manifest.manifest.config.digest
        if image_id not in made:
            made[image_id] = docker_image(image.familiar, manifest, blobs, uncompressed_size)
            names[image_id] = {}
        parents.setdefault(image_id, image.labels.get(PARENT_LABEL, ""))
        if not image.is_untagged and "@" not in image.name:
            names[image_id][reference.parse_normalized(image.name)] = None
    return [_Named(image, tuple(names[i]), parents[i]) for i, image in made.items()]


def _manifest(image: Image, blobs: Blobs, options: Options) -> ImageManifest:
    graph = options.graph(image, blobs)
    manifest = options.described(image, graph)
    if manifest is None:
        raise NotAnImage(image.familiar, graph.artifact_type)
    return manifest


def _index(named: Iterable[_Named]) -> oci.Index:
    entries: list[Descriptor] = []
    for one in named:
        for name in one.names:
            annotations = {oci.IMAGE_NAME: str(name), oci.REF_NAME: name.tag or ""}
            entries.append(msgspec.structs.replace(one.image.manifest, annotations=annotations))
        if not one.names:
            entries.append(one.image.manifest)
    return oci.Index(schema_version=2, media_type=oci.INDEX, manifests=tuple(entries))


def _items(named: Sequence[_Named]) -> list[ManifestItem]:
    """Return the items; an item names its parent only if the archive includes it."""
    here = {str(one.image.id) for one in named}
    return [_item(one, one.parent if one.parent in here - {one.image.id} else "") for one in named]


def _item(one: _Named, parent: str) -> ManifestItem:
    layers = one.image.layers
    return ManifestItem(
        config=Entry.blob_path(one.image.id),
        repo_tags=tuple(name.familiar for name in one.names) or None,
        layers=tuple(Entry.blob_path(layer.diff_id) for layer in layers),
        parent=parent,
        layer_sources={layer.diff_id: _source(layer.descriptor) for layer in layers},
    )


def _source(layer: Descriptor) -> LayerSource:
    return LayerSource(layer.media_type, layer.size, layer.digest, layer.urls, layer.annotations)


def _repositories(named: Iterable[_Named]) -> dict[str, dict[str, str]]:
    """Return the digest of the last layer, by familiar name and tag."""
    found: dict[str, dict[str, str]] = {}
    for one in named:
        for name in one.names:
            last = one.image.layers[-1].diff_id
            found.setdefault(name.familiar_name, {})[name.tag or ""] = last.encoded
    return found

"""The layout that docker save writes since 25, where docker keeps its images by a graph driver.

Layers are uncompressed, under their diff IDs; manifests are made for the archive, and so are v1
configs, one a layer. `manifest.json` has an item an image, `index.json` an entry a name (or a plain
one for an image without), `repositories` the names. An image is its config: two manifests with one
config are one image. Of an index the best match alone is there.

Times are 1970, but for blobs and directories, which have their image's own: of several the first
one's, directories the last one's. (docker's own `blobs/sha256/` has the time of the saving, and so
has `index.json` up to 28.) docker leaves untagged images behind the first out of `index.json`, and
knows no order of images; here all are there, in the order asked for.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import Final

import msgspec

from engine import graph as walk
from engine.errors import NotAnImage
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
    """What of the images goes into the layout."""


class _Named(msgspec.Struct, frozen=True):
    """An image, its names, and the ID of the one that it was built upon, "" for none."""

    image: DockerImage
    names: tuple[Reference, ...]
    parent: str


def layout(
    images: Sequence[Image],
    blobs: walk.Blobs,
    uncompressed_size: Callable[[str], int],
    options: Options,
) -> tuple[Entry, ...]:
    """The entries of one archive with these images, sorted by path.

    `uncompressed_size` says how many bytes come out of a stored layer. NotExportable for an image
    that docker would not save; errors as `docker_image`, `Selection.graph`, `Selection.described`.
    """
    named = _named(images, blobs, uncompressed_size, options)
    blob_entries: dict[str, Entry] = {}
    for one in named:
        for entry in one.image.blobs:
            blob_entries.setdefault(entry.path, entry)
    documents = {
        "oci-layout": _LAYOUT,
        "index.json": oci.render(_index(named)),
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
    blobs: walk.Blobs,
    uncompressed_size: Callable[[str], int],
    options: Options,
) -> list[_Named]:
    """Every image once, with its names."""
    manifests: dict[str, walk.ImageManifest] = {}
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


def _manifest(image: Image, blobs: walk.Blobs, options: Options) -> walk.ImageManifest:
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
    """A parent is told where the archive has it too."""
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
    """The digest of the last layer, by familiar name and tag."""
    found: dict[str, dict[str, str]] = {}
    for one in named:
        for name in one.names:
            last = one.image.layers[-1].diff_id
            found.setdefault(name.familiar_name, {})[name.tag or ""] = last.encoded
    return found

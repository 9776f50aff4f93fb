"""The combined layout of containerd and BuildKit, which both Docker's and OCI's tools read.

It consists of `oci-layout`, `index.json` (one entry per name), `manifest.json` (one item per image:
the best match for the requested platform) and all blobs below the images, each once, sorted by
path. Manifests of an index that are not in the store are omitted.
"""

from collections.abc import Callable, Sequence

from msgspec.structs import replace

from engine.graph import Blobs, Graph
from engine.image import Image
from engine.layouts.entry import Entry
from engine.layouts.selection import Selection
from engine.spec import docker, oci, reference
from engine.spec.digest import Digest
from engine.spec.oci import Descriptor


def _everything(_: Descriptor) -> bool:
    return True


def _ref_name(image: Image) -> str:
    """Return the tag of an image, as containerd annotates it; "" for an image without a name."""
    return "" if image.is_untagged else reference.oci_ref_name(image.name)


class Options(Selection, frozen=True):
    """The selection of manifests and the attributes of the layout.

    `mtime` is the time of all entries except blobs, in seconds. `keeps` returns whether a blob is
    included, and `ref_name` returns the `org.opencontainers.image.ref.name` of an image.
    """

    mtime: int = 0
    keeps: Callable[[Descriptor], bool] = _everything
    ref_name: Callable[[Image], str] = _ref_name


def layout(images: Sequence[Image], blobs: Blobs, options: Options) -> tuple[Entry, ...]:
    """Return the entries of one archive with these images.

    Images keep the order of `images` where the format allows it. Raise the errors of
    `Selection.graph` and `Selection.described`.
    """
    graphs = {image.target.digest: options.graph(image, blobs) for image in images}
    kept = {
        descriptor.digest: descriptor
        for graph in graphs.values()
        for descriptor in graph.blobs
        if options.keeps(descriptor)
    }
    algorithms = sorted({Digest(digest).algorithm for digest in kept})
    directories = ["blobs", *(f"blobs/{algorithm}" for algorithm in algorithms)] if kept else []
    entries = [
        *(Entry.directory(path, options.mtime) for path in directories),
        *(Entry.blob(Digest(d.digest), d.size, d.media_type) for d in kept.values()),
        Entry.file(
            oci.LAYOUT_FILE, 0o444, options.mtime, oci.render(oci.ImageLayout(oci.LAYOUT_VERSION))
        ),
        Entry.file(oci.INDEX_FILE, 0o644, options.mtime, oci.render(_index(images, options))),
    ]
    items = _items(images, graphs, options)
    if items:
        document = docker.render_manifest_json(items)
        entries.append(Entry.file("manifest.json", 0o644, options.mtime, document))
    return tuple(sorted(entries, key=lambda entry: entry.path))


def _index(images: Sequence[Image], options: Options) -> oci.Index:
    entries = [replace(image.target, annotations=_annotations(image, options)) for image in images]
    unique = {(entry.digest, entry.annotations.get(oci.IMAGE_NAME)): entry for entry in entries}
    return oci.Index(schema_version=2, media_type=oci.INDEX, manifests=tuple(unique.values()))


def _annotations(image: Image, options: Options) -> dict[str, str]:
    """Return the annotations of an image, sorted, with the names that it has and no others.

    containerd keeps those of the archive that an image came from, whose name it may have lost.
    """
    kept = {
        key: value
        for key, value in image.target.annotations.items()
        if key not in (oci.IMAGE_NAME, oci.REF_NAME)
    }
    return dict(sorted((kept | _names(image, options)).items()))


def _names(image: Image, options: Options) -> dict[str, str]:
    names = {
        oci.IMAGE_NAME: "" if image.is_untagged else image.name,
        oci.REF_NAME: options.ref_name(image),
    }
    return {key: name for key, name in names.items() if name}


def _items(
    images: Sequence[Image], graphs: dict[str, Graph], options: Options
) -> list[docker.ManifestItem]:
    items: dict[str, docker.ManifestItem] = {}
    for image in images:
        best = options.described(image, graphs[image.target.digest])
        if best is None:
            continue
        tags = () if image.is_untagged or "@" in image.name else (image.familiar,)
        item = items.get(best.descriptor.digest)
        if item is None:
            config, layers = best.manifest.config, best.manifest.layers
            item = docker.ManifestItem(
                config=Entry.blob_path(Digest(config.digest)),
                repo_tags=(),
                layers=tuple(Entry.blob_path(Digest(layer.digest)) for layer in layers),
            )
        merged = tuple(dict.fromkeys((*(item.repo_tags or ()), *tags)))
        items[best.descriptor.digest] = replace(item, repo_tags=merged)
    return [replace(i, repo_tags=i.repo_tags or None) for i in items.values()]

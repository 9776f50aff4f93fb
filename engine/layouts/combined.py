"""The combined layout: one tree that Docker's and OCI's tools both read, as containerd and BuildKit
export it.

`oci-layout`, `index.json` (an entry a name), `manifest.json` (an item an image: the best match for
the platform asked for) and every blob below the images, each once, sorted by path. What the store
lacks of an index is left out.
"""

from collections.abc import Callable, Sequence

from msgspec.structs import replace

from engine import graph as walk
from engine.image import Image
from engine.layouts.entry import Entry
from engine.layouts.selection import Selection
from engine.spec import docker, oci, reference
from engine.spec.digest import Digest
from engine.spec.oci import Descriptor


def _everything(_: Descriptor) -> bool:
    return True


def _ref_name(image: Image) -> str:
    """An image's tag, as containerd annotates it; nothing for an image without a name."""
    return "" if image.is_untagged else reference.oci_ref_name(image.name)


class Options(Selection, frozen=True):
    """What of the images goes into the layout.

    `mtime` is the time of all but the blobs, in seconds. `keeps` says which blobs are written at
    all, `ref_name` what `org.opencontainers.image.ref.name` says of an image.
    """

    mtime: int = 0
    keeps: Callable[[Descriptor], bool] = _everything
    ref_name: Callable[[Image], str] = _ref_name


def layout(images: Sequence[Image], blobs: walk.Blobs, options: Options) -> tuple[Entry, ...]:
    """The entries of one archive with these images, in the order asked for where order is free.

    Errors as `Selection.graph` and `Selection.described`.
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
            "oci-layout", 0o444, options.mtime, oci.render(oci.ImageLayout(oci.LAYOUT_VERSION))
        ),
        Entry.file("index.json", 0o644, options.mtime, oci.render(_index(images, options))),
    ]
    items = _items(images, graphs, options)
    if items:
        document = docker.render_manifest_json(items)
        entries.append(Entry.file("manifest.json", 0o644, options.mtime, document))
    return tuple(sorted(entries, key=lambda entry: entry.path))


def _index(images: Sequence[Image], options: Options) -> oci.Index:
    entries = [
        replace(
            image.target,
            annotations=dict(sorted((image.target.annotations | _names(image, options)).items())),
        )
        for image in images
    ]
    unique = {(entry.digest, entry.annotations.get(oci.IMAGE_NAME)): entry for entry in entries}
    return oci.Index(schema_version=2, media_type=oci.INDEX, manifests=tuple(unique.values()))


def _names(image: Image, options: Options) -> dict[str, str]:
    names = {
        oci.IMAGE_NAME: "" if image.is_untagged else image.name,
        oci.REF_NAME: options.ref_name(image),
    }
    return {key: name for key, name in names.items() if name}


def _items(
    images: Sequence[Image], graphs: dict[str, walk.Graph], options: Options
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

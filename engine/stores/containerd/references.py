"""The labels by which a manifest or index protects its children, named as containerd's clients do.

`ctr content prune references` and the option discard_unpacked_layers find the layers of an image by
these names. containerd's collection follows any name.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from typing import Final

from engine.errors import InvalidDocument
from engine.spec import oci
from engine.spec.descriptor import Descriptor

_PREFIX: Final = "containerd.io/gc.ref.content."


def renamed(labels: Mapping[str, str], read: Callable[[], bytes]) -> dict[str, str]:
    """Return the labels of a blob with those that `graph.gc_labels` has numbered under containerd's
    names. `read` returns the blob, and is called only if there are any.
    """
    others = {key: value for key, value in labels.items() if not _is_numbered(key)}
    if len(others) == len(labels):
        return others
    try:
        return others | _references(_children(read()))
    except InvalidDocument:
        return dict(labels)


def _is_numbered(key: str) -> bool:
    return key.startswith(_PREFIX) and key.removeprefix(_PREFIX).isdecimal()


def _children(data: bytes) -> tuple[Descriptor, ...]:
    """Return the descriptors in a manifest or index, of which the latter alone has manifests."""
    if manifests := oci.parse_index(data, "index").manifests:
        return manifests
    manifest = oci.parse_manifest(data, "manifest")
    return (manifest.config, *manifest.layers)


def _references(children: Iterable[Descriptor]) -> dict[str, str]:
    found = dict[str, str]()
    counts = Counter[str]()
    for child in children:
        kind = _kind(child.media_type)
        key = f"{kind}.{counts[kind]}" if kind else str(counts[kind])
        if kind == "config" and not counts[kind]:
            key = kind
        counts[kind] += 1
        found[_PREFIX + key] = child.digest
    return found


def _kind(media_type: str) -> str:
    if oci.is_config_type(media_type):
        return "config"
    if oci.is_manifest_type(media_type):
        return "m"
    return "l" if oci.is_layer_type(media_type) else ""

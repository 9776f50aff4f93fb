"""Fill the caches of types and regular expressions before the first image is read.

They are filled on first use, which takes some milliseconds, and so are modules imported that read
layers. A process with idle time at its start can call `warm_caches`, which lays out a minimal image
in memory, and imports them.
"""

from collections.abc import Iterable, Mapping
from importlib import import_module
from typing import Final

from engine.content.memory import MemoryReader
from engine.image import Image
from engine.layouts import combined
from engine.spec import digest, oci, platforms
from engine.spec.descriptor import Descriptor

_FOR_LAYERS: Final = ("engine.layers.chunks", "engine.layers.table_codec")
"""Modules that `engine.layers.layer` imports when a layer is read for the first time."""


def warm_caches() -> None:
    """Lay out a minimal image, and import what reads layers."""
    host = platforms.host()
    config = oci.render(
        oci.ImageConfig(
            architecture=host.architecture,
            os=host.os,
            rootfs=oci.RootFS("layers", ()),
            history=(oci.History(created_by="nobody", empty_layer=True),),
        )
    )
    manifest = oci.render(
        oci.Manifest(
            schema_version=2,
            media_type=oci.MANIFEST,
            config=_descriptor(oci.CONFIG, config),
            layers=(),
        )
    )
    image = Image("docker.io/library/nothing:1", _descriptor(oci.MANIFEST, manifest))
    combined.layout([image], _Held(config, manifest), combined.Options())
    for module in _FOR_LAYERS:
        import_module(module)


def _descriptor(media_type: str, data: bytes) -> Descriptor:
    return Descriptor(media_type, digest.of_bytes(data), len(data))


class _Held:
    """Documents in memory, as `engine.graph.Blobs`."""

    def __init__(self, *documents: bytes) -> None:
        self._documents: dict[str, bytes] = {digest.of_bytes(data): data for data in documents}

    def open(self, digest: str) -> MemoryReader:
        return MemoryReader(self._documents[digest])

    def sizes(self, digests: Iterable[str]) -> Mapping[str, int]:
        return {d: len(self._documents[d]) for d in digests if d in self._documents}

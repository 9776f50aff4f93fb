"""An image of nothing, held in memory and laid out once.

Types and patterns are learnt where they are first used, which takes some milliseconds. Who has time
before the first image is asked for need not have it wait for them.
"""

from collections.abc import Iterable, Mapping
from types import TracebackType
from typing import Self

import msgspec

from engine.image import Image
from engine.layouts import combined
from engine.spec import digest, oci, platforms
from engine.spec.descriptor import Descriptor


def warm_caches() -> None:
    """Look at it, as at any image."""
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


def _descriptor(media_type: str, data: bytes) -> Descriptor:
    return Descriptor(media_type, digest.of_bytes(data), len(data))


class _Document(msgspec.Struct, frozen=True):
    """An open blob, as `engine.content.ReaderAt`."""

    data: bytes

    @property
    def size(self) -> int:
        return len(self.data)

    def pread(self, length: int, offset: int) -> bytes:
        return self.data[offset : offset + length]

    def fileno(self) -> None:
        """Return None: the document is in memory."""

    def close(self) -> None:
        """Nothing is open."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Nothing is open."""


class _Held:
    """Documents in memory, as `engine.walk.Blobs`."""

    def __init__(self, *documents: bytes) -> None:
        self._documents: dict[str, bytes] = {digest.of_bytes(data): data for data in documents}

    def open(self, digest: str) -> _Document:
        return _Document(self._documents[digest])

    def sizes(self, digests: Iterable[str]) -> Mapping[str, int]:
        return {d: len(self._documents[d]) for d in digests if d in self._documents}

"""How a layer is compressed; who does it is in `compressors.py`, imported when it begins."""

from collections.abc import Callable
from typing import Final, Protocol

import msgspec

from engine.errors import InvalidInput
from engine.spec import oci

Sink = Callable[[bytes | memoryview], object]

BLOCK: Final = 2 << 20
"""Bytes that are best written at a time."""
_GZIP_LEVELS: Final = range(1, 10)
_ZSTD_LEVELS: Final = range(1, 20)
_MEDIA_TYPES: Final = {
    "uncompressed": oci.LAYER,
    "gzip": oci.LAYER_GZIP,
    "zstd": oci.LAYER_ZSTD,
}


class InvalidCompression(InvalidInput):
    """A compression that there is not."""

    def __init__(self, text: str, expected: str) -> None:
        super().__init__(text, expected)
        self.text = text
        self.expected = expected

    def __str__(self) -> str:
        return f"compression {self.text}: expected {self.expected}"


class Compressor(Protocol):
    """Takes a layer's bytes and writes what is stored; for one thread at a time.

    What is written must hold still until `held` more pieces of BLOCK bytes have been.
    """

    @property
    def held(self) -> int: ...

    def write(self, data: bytes | memoryview) -> None: ...

    def finish(self) -> None:
        """Write what is left. Nothing more may come."""
        ...

    def close(self) -> None:
        """Let go of threads; may be called again."""
        ...


class Compression(msgspec.Struct, frozen=True):
    """ "uncompressed", "gzip" or "zstd", with a level where it is not the usual one."""

    kind: str = "gzip"
    level: int | None = None

    def __post_init__(self) -> None:
        if self.kind not in _MEDIA_TYPES:
            raise InvalidCompression(self.kind, " or ".join(_MEDIA_TYPES))
        levels = {"gzip": _GZIP_LEVELS, "zstd": _ZSTD_LEVELS}.get(self.kind, range(0))
        if self.level is not None and self.level not in levels:
            expected = f"a level from {levels[0]} to {levels[-1]}" if levels else "no level"
            raise InvalidCompression(str(self), expected)

    def __str__(self) -> str:
        return self.kind if self.level is None else f"{self.kind}:{self.level}"

    @property
    def media_type(self) -> str:
        """OCI's media type of such a layer."""
        return _MEDIA_TYPES[self.kind]

    def start(self, sink: Sink) -> Compressor:
        """A compressor that writes to `sink`."""
        from engine.compression import compressors

        match self.kind:
            case "gzip":
                return compressors.Gzip(sink, self.level)
            case "zstd":
                return compressors.Zstd(sink, self.level or 3)
            case _:
                return compressors.Plain(sink)


def parse(text: str) -> Compression:
    """ "gzip", "zstd:9", "uncompressed"; InvalidCompression."""
    kind, colon, level = text.partition(":")
    if colon and not (level.isascii() and level.isdigit()):
        raise InvalidCompression(text, "KIND or KIND:LEVEL")
    return Compression(kind, int(level) if colon else None)

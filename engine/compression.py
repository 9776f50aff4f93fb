"""How a layer is compressed, with bytes that depend on nothing but the input and the settings.

gzip is cut into blocks that are compressed on their own, by several threads, and joined as one
stream, as pigz does it; so it is the same bytes however many threads there are.
"""

import os
import struct
import sys
import zlib
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Final, Protocol

import msgspec
from isal import isal_zlib

from engine import oci
from engine.errors import InvalidInput

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

Sink = Callable[[bytes], object]

BLOCK: Final = 2 << 20
"""Bytes that are best written at a time."""
_GZIP_HEADER: Final = b"\x1f\x8b\x08\0\0\0\0\0\0\xff"
_ISAL_LEVEL: Final = 1
"""Twice as fast as its best level, and two per cent larger."""
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
    """Takes a layer's bytes and writes what is stored; for one thread at a time."""

    def write(self, data: bytes) -> None: ...

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
        match self.kind:
            case "gzip":
                return _Gzip(sink, self.level)
            case "zstd":
                return _Zstd(sink, self.level or 3)
            case _:
                return _Plain(sink)


def parse(text: str) -> Compression:
    """ "gzip", "zstd:9", "uncompressed"; InvalidCompression."""
    kind, colon, level = text.partition(":")
    if colon and not (level.isascii() and level.isdigit()):
        raise InvalidCompression(text, "KIND or KIND:LEVEL")
    return Compression(kind, int(level) if colon else None)


class _Plain:
    def __init__(self, sink: Sink) -> None:
        self._sink = sink

    def write(self, data: bytes) -> None:
        self._sink(data)

    def finish(self) -> None:
        """Nothing is held back."""

    def close(self) -> None:
        """Nothing is held."""


class _Zstd:
    def __init__(self, sink: Sink, level: int) -> None:
        options: dict[int, int] = {
            zstd.CompressionParameter.compression_level: level,
            zstd.CompressionParameter.checksum_flag: 1,
            zstd.CompressionParameter.nb_workers: max(1, len(os.sched_getaffinity(0))),
        }
        self._sink = sink
        self._compressor = zstd.ZstdCompressor(options=options)

    def write(self, data: bytes) -> None:
        if out := self._compressor.compress(data):
            self._sink(out)

    def finish(self) -> None:
        self._sink(self._compressor.flush())

    def close(self) -> None:
        """Nothing is held."""


class _Gzip:
    def __init__(self, sink: Sink, level: int | None) -> None:
        self._sink = sink
        self._compress = _fast_block if level is None else _zlib_block(level)
        self._held = bytearray()
        self._threads = max(1, len(os.sched_getaffinity(0)))
        self._pool = ThreadPoolExecutor(self._threads)
        self._running: deque[Future[bytes]] = deque()
        self._checksum = 0
        self._size = 0
        sink(_GZIP_HEADER)

    def write(self, data: bytes) -> None:
        self._checksum = isal_zlib.crc32(data, self._checksum)
        self._size += len(data)
        if len(data) == BLOCK and not self._held:
            self._submit(data)
            return
        self._held += data
        while len(self._held) >= BLOCK:
            self._submit(bytes(self._held[:BLOCK]))
            del self._held[:BLOCK]

    def finish(self) -> None:
        if self._held:
            self._submit(bytes(self._held))
            self._held.clear()
        while self._running:
            self._sink(self._running.popleft().result())
        self._sink(_LAST_BLOCK + struct.pack("<II", self._checksum, self._size & 0xFFFFFFFF))
        self.close()

    def close(self) -> None:
        self._pool.shutdown(cancel_futures=True)

    def _submit(self, block: bytes) -> None:
        self._running.append(self._pool.submit(self._compress, block))
        if len(self._running) > 2 * self._threads:
            self._sink(self._running.popleft().result())


_LAST_BLOCK: Final = b"\x03\0"
"""An empty deflate block that says it is the last."""


def _fast_block(block: bytes) -> bytes:
    """A block by isal, ending at a byte's border."""
    compressor = isal_zlib.compressobj(level=_ISAL_LEVEL, wbits=-15)
    return compressor.compress(block) + compressor.flush(isal_zlib.Z_FULL_FLUSH)


def _zlib_block(level: int) -> Callable[[bytes], bytes]:
    def compress(block: bytes) -> bytes:
        compressor = zlib.compressobj(level, wbits=-15)
        return compressor.compress(block) + compressor.flush(zlib.Z_FULL_FLUSH)

    return compress

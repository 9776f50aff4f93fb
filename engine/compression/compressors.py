"""What compresses a layer, with bytes that depend on nothing but the input and the settings.

gzip is cut into blocks that are compressed on their own, by several threads, and joined as one
stream, as pigz does it; so it is the same bytes however many threads there are.
"""

import os
import struct
import sys
import zlib
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import Final, NamedTuple

from isal import isal_zlib

from engine.compression.options import BLOCK, Sink
from engine.threads import Workers

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

_GZIP_HEADER: Final = b"\x1f\x8b\x08\0\0\0\0\0\0\xff"
_ISAL_LEVEL: Final = 1
"""Twice as fast as its best level, and two per cent larger."""


class Plain:
    held = 0

    def __init__(self, sink: Sink) -> None:
        self._sink = sink

    def write(self, data: bytes | memoryview) -> None:
        self._sink(data)

    def finish(self) -> None:
        """Nothing is held back."""

    def close(self) -> None:
        """Nothing is held."""


class Zstd:
    held = 0

    def __init__(self, sink: Sink, level: int) -> None:
        options: dict[int, int] = {
            zstd.CompressionParameter.compression_level: level,
            zstd.CompressionParameter.checksum_flag: 1,
            zstd.CompressionParameter.nb_workers: max(1, len(os.sched_getaffinity(0))),
        }
        self._sink = sink
        self._compressor = zstd.ZstdCompressor(options=options)

    def write(self, data: bytes | memoryview) -> None:
        if out := self._compressor.compress(data):
            self._sink(out)

    def finish(self) -> None:
        self._sink(self._compressor.flush())

    def close(self) -> None:
        """Nothing is held."""


def _keep_memory() -> None:
    """Have malloc keep what is freed, up to some blocks.

    Else glibc gives the memory of each compressed block back, and the kernel clears it anew for the
    next. What is large it keeps once something larger was freed; this here is never touched.
    """
    bytes(4 * BLOCK)


class _Block(NamedTuple):
    """A block that is compressed, ending at a byte's border, and what it was."""

    pieces: tuple[bytes, bytes]
    checksum: int
    size: int


class Gzip:
    def __init__(self, sink: Sink, level: int | None) -> None:
        self._sink = sink
        self._compress = partial(_block, _fast if level is None else partial(_zlib, level))
        self._held = bytearray()
        self._threads = max(1, len(os.sched_getaffinity(0)))
        self._workers = Workers(self._threads)
        self.held = 2 * self._threads
        self._running: deque[Callable[[], _Block]] = deque()
        self._checksum = 0
        self._size = 0
        _keep_memory()
        sink(_GZIP_HEADER)

    def write(self, data: bytes | memoryview) -> None:
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
            self._write_out(self._running.popleft()())
        self._sink(_LAST_BLOCK + struct.pack("<II", self._checksum, self._size & 0xFFFFFFFF))
        self.close()

    def close(self) -> None:
        self._workers.close()

    def _submit(self, block: bytes | memoryview) -> None:
        self._running.append(self._workers.begin(self._compress, block))
        if len(self._running) > self.held:
            self._write_out(self._running.popleft()())

    def _write_out(self, block: _Block) -> None:
        for piece in block.pieces:
            self._sink(piece)
        self._checksum = isal_zlib.crc32_combine(self._checksum, block.checksum, block.size)
        self._size += block.size


_LAST_BLOCK: Final = b"\x03\0"
"""An empty deflate block that says it is the last."""


def _block(
    compress: Callable[[bytes | memoryview], tuple[bytes, bytes]], data: bytes | memoryview
) -> _Block:
    return _Block(compress(data), isal_zlib.crc32(data), len(data))


def _fast(block: bytes | memoryview) -> tuple[bytes, bytes]:
    compressor = isal_zlib.compressobj(level=_ISAL_LEVEL, wbits=-15)
    return compressor.compress(block), compressor.flush(isal_zlib.Z_FULL_FLUSH)


def _zlib(level: int, block: bytes | memoryview) -> tuple[bytes, bytes]:
    compressor = zlib.compressobj(level, wbits=-15)
    return compressor.compress(block), compressor.flush(zlib.Z_FULL_FLUSH)

"""Compressors of layers whose output depends only on the input and the settings.

gzip input is cut into blocks that several threads compress independently and that are joined into
one stream, as pigz does it; so the output is the same for any number of threads.
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

from engine.allocation import keep_freed_memory
from engine.closing import Closing
from engine.compression.compressor import BLOCK, Sink
from engine.compression.decompress import StreamPosition
from engine.threads import Workers

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

_GZIP_HEADER: Final = b"\x1f\x8b\x08\0\0\0\0\0\0\xff"
_ISAL_LEVEL: Final = 1
"""About twice as fast as the best level of isal, with output 2 % larger."""


class Plain(Closing):
    """A `Compressor` that stores the bytes as they are."""

    held = 0
    entrances = ()

    def __init__(self, sink: Sink) -> None:
        self._sink = sink

    def write(self, data: bytes | memoryview) -> None:
        self._sink(data)

    def finish(self) -> None:
        """Do nothing: no bytes are held back."""


class Zstd(Closing):
    """A `Compressor` that writes one zstd frame with a checksum."""

    held = 0
    entrances = ()

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


class _Block(NamedTuple):
    """A compressed block that ends at a byte boundary, and the CRC-32 and size of its input."""

    pieces: tuple[bytes, bytes]
    checksum: int
    size: int


class Gzip:
    """A `Compressor` that writes one gzip stream; without a `level` it uses the fastest encoder."""

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
        self._written = len(_GZIP_HEADER)
        self.entrances: list[StreamPosition] = []
        keep_freed_memory(4 * BLOCK)
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
        if self._size:
            self.entrances.append(StreamPosition(self._written, self._size))
        for piece in block.pieces:
            self._sink(piece)
            self._written += len(piece)
        self._checksum = isal_zlib.crc32_combine(self._checksum, block.checksum, block.size)
        self._size += block.size


_LAST_BLOCK: Final = b"\x03\0"
"""An empty deflate block that is marked as the last one."""


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

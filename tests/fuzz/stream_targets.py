"""Fuzz targets whose input are compressed streams."""

import bz2
import lzma
import zlib
from collections.abc import Callable, Iterable
from typing import Any, Self

from engine.compression import decompress
from engine.compression.decompress import Decompressor
from engine.errors import BrokenArchive
from engine.layers.cursor import Cursor
from engine.layers.learning import learn
from engine.layers.table import CHUNK, StoredLayer
from engine.limits import BUFFER_SIZE
from engine.progress import ignore
from tests.fuzz.oracle import Refused, answer, pieces

MOST = 6 << 20
"""More than comes out of a seed; what expands further is not followed."""
_THEIRS: dict[str, Callable[[], Any]] = {
    "gzip": lambda: zlib.decompressobj(16 + 15),
    "xz": lambda: lzma.LZMADecompressor(lzma.FORMAT_XZ, 128 << 20),
    "bzip2": bz2.BZ2Decompressor,
}
_ERRORS = (OSError, EOFError, ValueError, zlib.error, lzma.LZMAError)


class TooMuch(Exception):
    """The error for a decompression bomb, which is not read on."""


def streams(data: bytes) -> None:
    """Check that a stream decompresses the same in any pieces, and by Python."""
    name = decompress.sniff(data[: decompress.SNIFFED])
    if name == "none":
        return
    try:
        whole = answer(lambda: expanded(decompress.new(name), [memoryview(data)]))
        cut = answer(lambda: expanded(decompress.new(name), pieces(data)))
        outer = answer(lambda: expanded(decompress.ArchiveDecompressor(), pieces(data)))
    except TooMuch:
        return
    assert same(whole, cut)
    assert same(whole, outer)
    if name in _THEIRS:
        assert same(whole, theirs(name, data))
    if isinstance(whole, bytes) and name in ("gzip", "zstd"):
        seeks(data, whole)


def theirs(name: str, data: bytes) -> bytes | Refused:
    """Return what Python's own decoder makes of streams with zeros between and after them."""
    out = b""
    while data:
        decoder = _THEIRS[name]()
        try:
            out += decoder.decompress(data)
        except _ERRORS as error:
            return Refused(BrokenArchive, str(error))
        if not decoder.eof:
            return Refused(BrokenArchive, "it is truncated")
        data = decoder.unused_data.lstrip(b"\0")
    return out


def same(one: bytes | Refused, other: bytes | Refused) -> bool:
    """Refusals need not name the same byte: decoders do not look ahead equally far."""
    if isinstance(one, Refused) and isinstance(other, Refused):
        return one.kind == other.kind
    return one == other


def expanded(
    decompressor: "Decompressor | decompress.ArchiveDecompressor", parts: Iterable[memoryview]
) -> bytes:
    out = bytearray()
    for part in parts:
        for piece in decompressor.feed(part):
            assert 0 < len(piece) <= BUFFER_SIZE
            out += piece
            if len(out) > MOST:
                raise TooMuch
    decompressor.finish()
    return bytes(out)


class Blob:
    """Stored bytes, as a `ReaderAt`."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.size = len(data)

    def pread(self, length: int, offset: int) -> bytes:
        return self.data[offset : offset + length]

    def fileno(self) -> None:
        """Return None: it is in memory."""

    def close(self) -> None:
        pass

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        pass


def seeks(data: bytes, plain: bytes) -> None:
    """Check that every chunk can be read first, from its point, and after those before it."""
    blob = Blob(data)
    layer = StoredLayer("layer", learn(blob, "layer", ignore).table)
    assert layer.table.size == len(plain)
    for number in reversed(range(len(layer.table.checksums))):
        cursor = Cursor(layer, number)
        while cursor.position < number:
            cursor.next_chunks(blob)
        start = number * CHUNK
        assert cursor.next_chunks(blob) == plain[start : start + CHUNK]

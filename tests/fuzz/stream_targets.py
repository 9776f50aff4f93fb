"""Fuzz targets whose input are compressed streams."""

import bz2
import lzma
import zlib
from collections.abc import Callable, Iterable
from typing import Any, Self

from engine.compression import decompress
from engine.compression.decompress import Decompressor
from engine.errors import BrokenArchive
from engine.layers.seek_index import CHUNK, Cursor, SeekIndex
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
    """Check that a stream decompresses the same in any pieces, by any decoder, and by Python."""
    name = decompress.sniff(data[: decompress.SNIFFED])
    if name == "none":
        return
    try:
        whole = answer(lambda: expanded(decompress.new(name), [memoryview(data)]))
        cut = answer(lambda: expanded(decompress.new(name), pieces(data)))
        other = answer(lambda: expanded(decompress.resumable(name), pieces(data)))
        outer = answer(lambda: expanded(decompress.ArchiveDecompressor(), pieces(data)))
    except TooMuch:
        return
    assert same(whole, cut)
    assert same(whole, other)
    assert same(whole, outer)
    if name in _THEIRS:
        assert same(whole, theirs(name, data))
    if isinstance(whole, bytes):
        seeks(name, data, whole)


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
            assert 0 < len(piece) <= CHUNK
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


def seeks(name: str, data: bytes, plain: bytes) -> None:
    """Check that every chunk can be read first, and again when the index is larger."""
    blob, index = Blob(data), SeekIndex(name)
    chunks = range(0, max(len(plain), 1), CHUNK)
    for start in [*reversed(chunks), *chunks]:
        cursor = Cursor(index, start // CHUNK, len(plain))
        while cursor.position < start // CHUNK:
            cursor.next_chunk(blob)
        if start < len(plain):
            assert cursor.next_chunk(blob) == plain[start : start + CHUNK]
    for wrong in (len(plain) + 1, len(plain) - 1):
        if wrong > 0:
            cursor = Cursor(SeekIndex(name), 0, wrong)
            assert isinstance(answer(lambda cursor=cursor: drained(cursor, blob)), Refused)  # type: ignore[misc]  # mypy infers no type for a lambda with defaults


def drained(cursor: Cursor, blob: Blob) -> None:
    while not cursor.ended:
        cursor.next_chunk(blob)

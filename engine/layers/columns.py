"""Stored columns of numbers, and the checked, compressed documents that hold them.

A document is a header (a name and the version of its format), a CRC-32 of what follows it, and a
MessagePack value, compressed with zstd if it is larger than _SMALL bytes. Columns of numbers are
split into columns of bytes, the lowest first, since those compress better.
"""

import sys
from array import array
from collections.abc import Iterable
from itertools import accumulate, chain
from types import ModuleType
from typing import Any, Final

import msgspec

from engine.compression.checksum import crc32
from engine.errors import BrokenArchive
from engine.layers.table import Attributes, Texts
from engine.tar.member import NO_XATTRS

_CHECKSUM: Final = 4
_SMALL: Final = 4 << 10
_ZSTD: Final = b"\x28\xb5\x2f\xfd"
_LEVEL: Final = 6


class StoredAttributes(msgspec.Struct, frozen=True, array_like=True):
    """The stored form of `Attributes`."""

    kind: str
    mode: int
    uid: int
    gid: int
    device: tuple[int, int]
    xattrs: dict[bytes, bytes]


def sealed(header: bytes, document: Any) -> bytes:
    """Return the stored form of a document; the same document gives the same bytes."""
    plain = msgspec.msgpack.encode(document)
    body = plain if len(plain) <= _SMALL else _zstd().compress(plain, _LEVEL)
    return header + crc32(body).to_bytes(_CHECKSUM) + body


def unsealed(header: bytes, data: bytes) -> bytes | memoryview | None:
    """Return the MessagePack value in a document, None if its header is another; raise
    BrokenArchive.
    """
    if not data.startswith(header):
        return None
    start = len(header) + _CHECKSUM
    body = memoryview(data)[start:]
    expected, found = int.from_bytes(data[len(header) : start]), crc32(body)
    if expected != found:
        what = f"expected the checksum {expected:08x}, found {found:08x}"
        raise BrokenArchive("", f"is a damaged layer table: {what}")
    return body if bytes(body[:4]) != _ZSTD else _zstd().decompress(body)


def split(code: str, numbers: Iterable[int]) -> bytes:
    """Return the stored form of a column; `code` is the type of its numbers as in `array`."""
    column = array(code, numbers)
    if sys.byteorder == "big":
        column.byteswap()
    raw, width = column.tobytes(), column.itemsize
    return b"".join(raw[byte::width] for byte in range(width))


def joined(code: str, stored: bytes) -> "array[int]":
    """Return the column that `split` stored."""
    column = array(code)
    width = column.itemsize
    count = len(stored) // width
    raw = bytearray(len(stored))
    for byte in range(width):
        raw[byte::width] = stored[byte * count : (byte + 1) * count]
    column.frombytes(raw)
    if sys.byteorder == "big":
        column.byteswap()
    return column


def split_lengths(texts: Texts) -> bytes:
    """Return the stored form of the lengths of byte strings."""
    return split("I", map(int.__sub__, texts.ends, chain((0,), texts.ends)))


def joined_texts(text: bytes, lengths: bytes) -> Texts:
    """Return byte strings that follow one another in `text`."""
    return Texts(text, array("I", accumulate(joined("I", lengths))))


def stored_attributes(shared: Attributes) -> StoredAttributes:
    """Return the stored form of attributes."""
    xattrs = {k.encode("utf-8", "surrogateescape"): v for k, v in sorted(shared.xattrs.items())}
    return StoredAttributes(shared.kind, shared.mode, shared.uid, shared.gid, shared.device, xattrs)


def loaded_attributes(stored: StoredAttributes) -> Attributes:
    """Return attributes from their stored form."""
    xattrs = {k.decode("utf-8", "surrogateescape"): v for k, v in stored.xattrs.items()}
    return Attributes(
        stored.kind, stored.mode, stored.uid, stored.gid, stored.device, xattrs or NO_XATTRS
    )


def _zstd() -> ModuleType:
    """Return the module zstd, which small documents do without."""
    if sys.version_info >= (3, 14):
        from compression import zstd
    else:
        from backports import zstd
    return zstd

"""Stored columns of numbers and attributes.

Columns of numbers are split into columns of bytes, the lowest first, since those compress better.
"""

import sys
from array import array

import msgspec

from engine.layers.table import Attributes
from engine.tar.member import NO_XATTRS


class StoredAttributes(msgspec.Struct, frozen=True, array_like=True):
    """The stored form of `Attributes`."""

    kind: str
    mode: int
    uid: int
    gid: int
    device: tuple[int, int]
    xattrs: dict[bytes, bytes]


def split(column: "array[int]") -> bytes:
    """Return the stored form of a column: the number of columns of bytes, and these.

    The last ones are left out if they are zeros.
    """
    if sys.byteorder == "big":
        column = column[:]
        column.byteswap()
    raw, width = column.tobytes(), column.itemsize
    parts = [raw[byte::width] for byte in range(width)]
    while len(parts) > 1 and not parts[-1].strip(b"\0"):
        parts.pop()
    return b"".join((bytes((len(parts),)), *parts))


def joined(code: str, stored: bytes) -> "array[int]":
    """Return the column that `split` stored; `code` is the type of its numbers as in `array`."""
    column = array(code)
    width, parts = column.itemsize, stored[0]
    count = (len(stored) - 1) // parts
    raw = bytearray(count * width)
    for byte in range(parts):
        raw[byte::width] = stored[1 + byte * count : 1 + (byte + 1) * count]
    column.frombytes(raw)
    if sys.byteorder == "big":
        column.byteswap()
    return column


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

"""Encode tar header blocks as Go does: ustar, or PAX for values that ustar cannot hold."""

import struct
from collections.abc import Mapping
from typing import Final

import msgspec

from engine.tar.header_decoder import BLOCK as BLOCK
from engine.tar.header_decoder import byte_sum
from engine.units import NS_PER_SECOND

END: Final = bytes(2 * BLOCK)
"""The end-of-archive marker."""

_FIELDS = struct.Struct("100s48s8s1s100s8s64x16s155s12x")
_CHECKSUM = 148
_NO_CHECKSUM = b" " * 8
_MAGIC = b"ustar\x0000"
_NAME = 100
_PREFIX = 155
_MAX_SMALL = 8**7 - 1
_MAX_LARGE = 8**11 - 1
_EMPTY = b""
_NO_DEVICE = 2 * b"0000000\0"

FILE, HARDLINK, SYMLINK, CHARACTER, BLOCK_DEVICE, DIRECTORY, FIFO = (b"%d" % i for i in range(7))
TYPE_FLAGS: Final[Mapping[str, bytes]] = {
    "file": FILE,
    "dir": DIRECTORY,
    "symlink": SYMLINK,
    "fifo": FIFO,
    "character device": CHARACTER,
    "block device": BLOCK_DEVICE,
}
"""The type flags by the kinds of `tar.member.Member`."""


class Header(msgspec.Struct, frozen=True, gc=False):
    """The fields of a member to write.

    The path of a directory ends in a slash; `mtime` is in whole seconds. Text holds surrogate
    escapes for bytes that are not UTF-8. `records` are PAX records, in addition to those that the
    fields require or replacing them: a `mtime` with a fraction, for example.
    """

    path: str
    flag: bytes = FILE
    mode: int = 0
    uid: int = 0
    gid: int = 0
    size: int = 0
    mtime: int = 0
    linkname: str = ""
    device: tuple[int, int] = (0, 0)
    records: Mapping[str, bytes] = {}


def encode(header: Header) -> bytes:
    """Return the blocks that precede the data of the member."""
    records = _needed(header)
    records.update(header.records)
    place = _split(header.path)
    if place and not records:
        return _block(header, *place)
    if not _fits(header.path):
        records["path"] = _bytes(header.path)
    return _pax(header.path, records) + _block(header, _shortened(header.path))


def padding(size: int) -> bytes:
    """Return the bytes that fill the last block of a member of `size` bytes."""
    return bytes(-size % BLOCK)


def time(nanoseconds: int) -> bytes:
    """Return nanoseconds since the epoch as the value of a PAX record, with a fraction if needed.

    As in Go, the sign applies to the whole number: "-0.5" is half a second before the epoch.
    """
    seconds, fraction = divmod(abs(nanoseconds), NS_PER_SECOND)
    sign = "-" if nanoseconds < 0 else ""
    return f"{sign}{seconds}.{fraction:09}".rstrip("0").rstrip(".").encode()


def _needed(header: Header) -> dict[str, bytes]:
    records = {}
    for name, value, most in (
        ("mtime", header.mtime, _MAX_LARGE),
        ("size", header.size, _MAX_LARGE),
        ("uid", header.uid, _MAX_SMALL),
        ("gid", header.gid, _MAX_SMALL),
    ):
        if not 0 <= value <= most:
            records[name] = b"%d" % value
    if header.linkname and not _fits(header.linkname):
        records["linkpath"] = _bytes(header.linkname)
    return records


def _pax(path: str, records: Mapping[str, bytes]) -> bytes:
    """Return an extended header, named as Go names it."""
    data = b"".join(_record(key, value) for key, value in sorted(records.items()))
    directory, _, base = path.rpartition("/")
    name = _shortened(f"{directory}/PaxHeaders.0/{base}".strip("/"))
    return _block(Header("", b"x", size=len(data)), name) + data + padding(len(data))


def _record(key: str, value: bytes) -> bytes:
    text = b" " + _bytes(key) + b"=" + value + b"\n"
    size = len(text)
    while size != len(text) + len(str(size)):
        size = len(text) + len(str(size))
    return b"%d" % size + text


def _block(header: Header, name: bytes, prefix: bytes = _EMPTY) -> bytes:
    numbers = b"%07o\0%07o\0%07o\0%011o\0%011o\0" % (
        _fitting(header.mode, _MAX_SMALL),
        _fitting(header.uid, _MAX_SMALL),
        _fitting(header.gid, _MAX_SMALL),
        _fitting(header.size, _MAX_LARGE),
        _fitting(header.mtime, _MAX_LARGE),
    )
    block = _FIELDS.pack(
        name,
        numbers,
        _NO_CHECKSUM,
        header.flag,
        _shortened(header.linkname) if header.linkname else _EMPTY,
        _MAGIC,
        _EMPTY if header.flag == b"x" else _device(header.device),
        prefix,
    )
    checksum = byte_sum(block[:256]) + byte_sum(block[256:])
    return b"%s%06o\0 %s" % (block[:_CHECKSUM], checksum, block[_CHECKSUM + 8 :])


def _fitting(value: int, most: int) -> int:
    """Return `value` if its field can hold it, else 0: a PAX record has the value then."""
    return value if 0 <= value <= most else 0


def _device(device: tuple[int, int]) -> bytes:
    if device == (0, 0):
        return _NO_DEVICE
    major, minor = (_fitting(number, _MAX_SMALL) for number in device)
    return b"%07o\0%07o\0" % (major, minor)


def _bytes(text: str) -> bytes:
    return text.encode(errors="surrogateescape")


def _fits(path: str) -> bool:
    return path.isascii() and len(path) <= _NAME


def _split(path: str) -> tuple[bytes, bytes] | None:
    """Return a path as the name and prefix of ustar; None if it is too long or not ASCII."""
    if _fits(path):
        return path.encode(), _EMPTY
    slash = path[: min(_PREFIX + 1, len(path) - 1)].rfind("/")
    prefix, name = path[: max(slash, 0)], path[slash + 1 :]
    return (name.encode(), prefix.encode()) if prefix and path.isascii() and _fits(name) else None


def _shortened(path: str) -> bytes:
    """Return the part of a path that the name field holds, for readers without support of PAX.

    A trailing slash is removed, since it would mark a directory.
    """
    text = path.encode("ascii", "ignore")
    return text if len(text) <= _NAME else text[:_NAME].rstrip(b"/")

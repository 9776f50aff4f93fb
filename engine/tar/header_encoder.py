"""Header blocks of tar as Go writes them: ustar, or PAX for what ustar cannot hold."""

import struct
from collections.abc import Mapping
from typing import Final

import msgspec

BLOCK: Final = 512
END: Final = bytes(2 * BLOCK)
"""What ends an archive."""

_FIELDS = struct.Struct("100s48s8s1s100s8s64x16s155s12x")
_CHECKSUM = 148
_NO_CHECKSUM = b" " * 8
_MAGIC = b"ustar\x0000"
_NAME = 100
_PREFIX = 155
_MAX_SMALL = 8**7 - 1
_MAX_LARGE = 8**11 - 1
_SECOND = 1_000_000_000
_EMPTY = b""

FILE, HARDLINK, SYMLINK, CHARACTER, BLOCK_DEVICE, DIRECTORY, FIFO = (b"%d" % i for i in range(7))


class Header(msgspec.Struct, frozen=True, gc=False):
    """A member to be written; a directory's path ends in a slash, `mtime` is in whole seconds.

    Text holds surrogate escapes where bytes are not UTF-8. `records` are PAX records beside those
    that the fields need, or instead of them: a `mtime` with a fraction is given here.
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
    """The blocks before the member's data."""
    records = _needed(header)
    records.update(header.records)
    place = _split(header.path)
    if place and not records:
        return _block(header, *place)
    if not _fits(header.path):
        records["path"] = _bytes(header.path)
    return _pax(header.path, records) + _block(header, _shortened(header.path))


def padding(size: int) -> bytes:
    """What fills the last block of a member of that size."""
    return bytes(-size % BLOCK)


def time(nanoseconds: int) -> bytes:
    """A time since the epoch as the value of a PAX record: seconds, and a fraction if there is one.

    As Go writes it: the sign is that of the whole, "-0.5" is half a second before the epoch.
    """
    seconds, fraction = divmod(abs(nanoseconds), _SECOND)
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
    """An extended header, called as Go calls it."""
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
    is_extended = header.flag == b"x"
    block = _FIELDS.pack(
        name,
        numbers,
        _NO_CHECKSUM,
        header.flag,
        _shortened(header.linkname) if header.linkname else _EMPTY,
        _MAGIC,
        _EMPTY if is_extended else _device(header.device),
        prefix,
    )
    return b"%s%06o\0 %s" % (block[:_CHECKSUM], sum(block), block[_CHECKSUM + 8 :])


def _fitting(value: int, most: int) -> int:
    """A number that its field can hold; zero where it cannot, since PAX says it then."""
    return value if 0 <= value <= most else 0


def _device(device: tuple[int, int]) -> bytes:
    major, minor = (_fitting(number, _MAX_SMALL) for number in device)
    return b"%07o\0%07o\0" % (major, minor)


def _bytes(text: str) -> bytes:
    return text.encode(errors="surrogateescape")


def _fits(path: str) -> bool:
    return path.isascii() and len(path) <= _NAME


def _split(path: str) -> tuple[bytes, bytes] | None:
    """A path as ustar's name and prefix, None if it does not fit or is not ASCII."""
    if _fits(path):
        return path.encode(), _EMPTY
    slash = path[: min(_PREFIX + 1, len(path) - 1)].rfind("/")
    prefix, name = path[: max(slash, 0)], path[slash + 1 :]
    return (name.encode(), prefix.encode()) if prefix and path.isascii() and _fits(name) else None


def _shortened(path: str) -> bytes:
    """As much of a path as the name field holds, for readers that do not know PAX; a slash that the
    cut leaves at the end would make it a directory.
    """
    text = path.encode("ascii", "ignore")
    return text if len(text) <= _NAME else text[:_NAME].rstrip(b"/")

"""Decode the header block of a tar member, as strictly as Go's archive/tar.

The formats are v7, ustar, star and GNU. Numbers are octal, padded with spaces and NULs, or
base-256.
"""

import struct
import zlib

import msgspec

from engine.errors import BrokenArchive
from engine.units import NS_PER_SECOND

BLOCK = 512
"""The size of a tar block in bytes."""
MAX_SIZE = (1 << 63) - 1

_FIELDS = struct.Struct("100s8s8s8s12s12s8x1s100s8s80x155s8x4s")
USTAR_MAGIC = b"ustar\x0000"
GNU_MAGIC = b"ustar  \0"
_WITH_DEVICES = frozenset({USTAR_MAGIC, GNU_MAGIC})
STAR_TRAILER = b"tar\0"
_STAR_PREFIX = 131
_SIGN_BIT = 0x40
_DEVICES = frozenset({b"3", b"4"})


class Header(msgspec.Struct, frozen=True, gc=False):
    """The decoded fields of a header block.

    `flag` is the type flag, `size` is in bytes and never negative, `mtime_ns` is in nanoseconds
    since the epoch, and `device` is the major and minor number of a device. `gnu` is True for the
    GNU format, the only one with sparse maps in header blocks.
    """

    flag: bytes
    name: str
    linkname: str
    size: int
    mode: int
    mtime_ns: int
    uid: int
    gid: int
    gnu: bool
    device: tuple[int, int] = (0, 0)


def parse(block: bytes) -> Header:
    """Return the fields of a header block whose checksum is correct; raise BrokenArchive."""
    name, mode, uid, gid, size, mtime, flag, linkname, magic, prefix, trailer = _FIELDS.unpack(
        block
    )
    if magic == USTAR_MAGIC:
        lead = prefix[:_STAR_PREFIX] if trailer == STAR_TRAILER else prefix
    else:
        lead = _misplaced_prefix(prefix) if magic == GNU_MAGIC else b""
    path = text(name)
    if lead and lead[0]:
        path = f"{text(lead)}/{path}"
    length = number(size, path, "size")
    if length < 0:
        raise BrokenArchive(path, f"has a bad header: the size is negative: {length}")
    return Header(
        flag,
        path,
        text(linkname),
        length,
        number(mode, path, "mode"),
        number(mtime, path, "time") * NS_PER_SECOND,
        number(uid, path, "owner"),
        number(gid, path, "group"),
        magic == GNU_MAGIC,
        _device(block, path) if flag in _DEVICES and magic in _WITH_DEVICES else (0, 0),
    )


def checksums(block: bytes) -> tuple[int, int | None]:
    """Return the expected checksum of a header block, and the recorded one (None if it is no
    number).

    If the recorded checksum is the sum of signed bytes, as some old writers computed it, the
    expected one is that sum.
    """
    try:
        said = number(block[148:156], "", "checksum")
    except BrokenArchive:
        said = None
    unsigned = (
        byte_sum(block[:148]) + byte_sum(block[156:404]) + byte_sum(block[404:]) + 8 * ord(" ")
    )
    if said == unsigned:
        return unsigned, said
    signed = unsigned - 256 * sum(byte > 127 for byte in block[:148] + block[156:])
    return (signed if said == signed else unsigned), said


def text(field: bytes) -> str:
    """Return the text before the first NUL of a field; bytes that are no UTF-8 are escaped."""
    return field.partition(b"\0")[0].decode("utf-8", "surrogateescape")


def number(field: bytes, member: str, what: str) -> int:
    """Return the value of a numeric field: 64 bits, negative only in base-256.

    Raise BrokenArchive for any other value; `what` names the field in the error.
    """
    digits = field.strip(b" \0")
    if not digits.isdigit():
        if field[0] & 0x80:
            return _binary(field, member, what)
        digits = digits.partition(b"\0")[0]
        if not digits:
            return 0
    try:
        # int() alone would also accept signs, underscores and other white space.
        if digits.isdigit():
            return int(digits, 8)
    except ValueError:
        pass
    raise BrokenArchive(
        member, f"has a bad header: expected an octal {what}, found {ascii(digits)[1:]}"
    )


def _binary(field: bytes, member: str, what: str) -> int:
    bits = 8 * len(field) - 1
    value = int.from_bytes(field) & ((1 << bits) - 1)
    if field[0] & _SIGN_BIT:
        value -= 1 << bits
    if not -MAX_SIZE - 1 <= value <= MAX_SIZE:
        raise BrokenArchive(member, f"has a bad header: the {what} needs more than 64 bits")
    return value


def _device(block: bytes, member: str) -> tuple[int, int]:
    major, minor = block[329:337], block[337:345]
    return number(major, member, "device number"), number(minor, member, "device number")


def byte_sum(part: bytes | memoryview) -> int:
    """Return the sum of up to 256 bytes: the low half of Adler-32, ten times as fast as `sum`."""
    return zlib.adler32(part, 0) & 0xFFFF


def _misplaced_prefix(field: bytes) -> bytes:
    """Return the prefix that Go before 1.8 wrote into GNU headers.

    It occupies the fields in which the GNU format has the times of access and change.
    """
    try:
        for time in (field[:12], field[12:24]):
            if time[0]:
                number(time, "", "time")
    except BrokenArchive:
        return field if field.isascii() else b""
    return b""

"""The fields of tar headers, read as strictly as Go's archive/tar reads them."""

import re

from engine.archive.sparse import Segment
from engine.errors import BrokenArchive

MAX_SIZE = (1 << 63) - 1
_RECORD = re.compile(rb"([0-9]{1,18}) ")
_GNU_MAGIC = b"ustar  \0"
_USTAR_MAGIC = b"ustar\0"


def check_sum(block: bytes) -> None:
    """BrokenArchive unless the header's checksum is right, counted unsigned or signed."""
    field = block[148:156].strip(b" \0")
    said = int(field, 8) if re.fullmatch(rb"[0-7]{1,8}", field) else None
    unsigned = sum(block) - sum(block[148:156]) + 8 * 32
    signed = unsigned - 256 * sum(byte > 127 for byte in block[:148] + block[156:])
    if said not in (unsigned, signed):
        raise BrokenArchive(
            "", f"is not a tar header: expected checksum {unsigned:o}, found {field!r}"
        )


def name(block: bytes) -> str:
    """The name in a header, with ustar's prefix."""
    prefix = b""
    if block[257:263] == _USTAR_MAGIC:
        prefix = block[345:500].partition(b"\0")[0]
    base = block[:100].partition(b"\0")[0]
    return decode(prefix + b"/" + base if prefix else base)


def text(field: bytes) -> str:
    """A field that a NUL ends."""
    return decode(field.partition(b"\0")[0])


def decode(data: bytes) -> str:
    """Bytes as text; those that are not UTF-8 as surrogate escapes."""
    return data.decode("utf-8", "surrogateescape")


def number(field: bytes, what: str) -> int:
    """An octal or base-256 number from 0 to 2^63 - 1."""
    if field[0] & 0x80:
        value = int.from_bytes(bytes([field[0] & 0x7F]) + field[1:])
        if field[0] & 0x40 or value > MAX_SIZE:
            raise BrokenArchive("", f"has a bad tar header: the {what} is negative or too large")
        return value
    digits = field.strip(b" \0")
    digits = digits.partition(b"\0")[0]
    if not digits:
        return 0
    if not re.fullmatch(rb"[0-7]+", digits):
        raise BrokenArchive("", f"has a bad tar header: expected an octal {what}, found {field!r}")
    return int(digits, 8)


def decimal(value: str, what: str) -> int:
    """A decimal number of a PAX record from 0 to 2^63 - 1."""
    if not re.fullmatch(r"[0-9]{1,19}", value) or int(value) > MAX_SIZE:
        raise BrokenArchive("", f"has a bad PAX header: expected a decimal {what}, found {value!r}")
    return int(value)


def pax_records(payload: bytes) -> dict[str, str]:
    """The records of a PAX header; repeated sparse records (format 0.0) become a map (0.1)."""
    records: dict[str, str] = {}
    sparse: list[str] = []
    position = 0
    while position < len(payload):
        found = _RECORD.match(payload, position)
        end = position + int(found[1]) if found else 0
        if found is None or not found.end() < end <= len(payload) or payload[end - 1] != 10:
            raise BrokenArchive("", f"has a bad PAX header: no record at byte {position}")
        key, equals, value = payload[found.end() : end - 1].partition(b"=")
        if not key or not equals or b"\0" in key:
            raise BrokenArchive("", f"has a bad PAX header: no key at byte {position}")
        word = decode(key)
        if word in ("path", "linkpath") and b"\0" in value:
            raise BrokenArchive("", f"has a bad PAX header: a NUL in {word}")
        if word in ("GNU.sparse.offset", "GNU.sparse.numbytes"):
            sparse.append(decode(value))
        else:
            records[word] = decode(value)
        position = end
    if sparse:
        records["GNU.sparse.map"] = ",".join(sparse)
    return records


def is_gnu_sparse(block: bytes) -> bool:
    """Whether it is the header of an old GNU sparse member."""
    return block[156:157] == b"S" and block[257:265] == _GNU_MAGIC


def gnu_segments(field: bytes) -> list[Segment]:
    """The segments in an old GNU sparse map, which an empty entry ends."""
    segments = []
    for position in range(0, len(field) - 23, 24):
        entry = field[position : position + 24]
        if not entry.strip(b"\0"):
            break
        segments.append((number(entry[:12], "sparse offset"), number(entry[12:], "sparse size")))
    return segments

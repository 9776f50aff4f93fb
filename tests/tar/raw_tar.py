"""Tar archives block by block, so that a test can put anything into them; made of nothing that is
tested.
"""

from collections.abc import Mapping
from typing import Any

USTAR = b"ustar\x0000"
GNU = b"ustar  \0"
V7 = bytes(8)
END = bytes(1024)

_FIELDS = {
    "name": (0, 100),
    "mode": (100, 8),
    "uid": (108, 8),
    "gid": (116, 8),
    "size": (124, 12),
    "mtime": (136, 12),
    "checksum": (148, 8),
    "flag": (156, 1),
    "linkname": (157, 100),
    "magic": (257, 8),
    "devices": (329, 16),
    "prefix": (345, 155),
    "tail": (345, 167),
}


def header(name: bytes, size: int | bytes = 0, flag: bytes = b"0", **fields: bytes) -> bytes:
    """A header block; `fields` are put in as they are, and the checksum is right if not given."""
    values = {
        "name": name,
        "mode": b"0000644\0",
        "uid": b"0000000\0",
        "gid": b"0000000\0",
        "size": size if isinstance(size, bytes) else b"%011o\0" % size,
        "mtime": b"00000000000\0",
        "flag": flag,
        "magic": USTAR,
    } | fields
    block = bytearray(512)
    for key, value in values.items():
        start, length = _FIELDS[key]
        assert len(value) <= length
        block[start : start + len(value)] = value
    if "checksum" not in fields:
        block[148:156] = b" " * 8
        block[148:156] = b"%06o\0 " % sum(block)
    return bytes(block)


def padded(data: bytes) -> bytes:
    return data + bytes(-len(data) % 512)


def member(name: bytes, data: bytes = b"", flag: bytes = b"0", **fields: bytes) -> bytes:
    """A header and its data."""
    return header(name, len(data), flag, **fields) + padded(data)


def record(key: str | bytes, value: str | bytes) -> bytes:
    """One PAX record."""
    text = b" " + _bytes(key) + b"=" + _bytes(value) + b"\n"
    size = next(n for n in range(len(text), len(text) + 20) if n == len(text) + len(str(n)))
    return b"%d" % size + text


def pax(records: Mapping[str, Any] | bytes, flag: bytes = b"x") -> bytes:
    """An extended header with these records, or with these bytes."""
    if not isinstance(records, bytes):
        records = b"".join(record(key, str(value)) for key, value in records.items())
    return member(b"PaxHeaders/x", records, flag)


def base256(value: int, length: int) -> bytes:
    number = value.to_bytes(length, signed=True)
    return bytes([number[0] | 0x80]) + number[1:]


def _bytes(text: str | bytes) -> bytes:
    return text if isinstance(text, bytes) else text.encode()

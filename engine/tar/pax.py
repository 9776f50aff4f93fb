"""The records of PAX extended headers, and the fields of a member that they set."""

import base64
import binascii
import re
import urllib.parse
from collections.abc import Mapping
from typing import Any

import msgspec

from engine.errors import BrokenArchive
from engine.tar.header_decoder import MAX_SIZE, Header
from engine.units import NS_PER_SECOND

SPARSE = "GNU.sparse."

_SCHILY = "SCHILY.xattr."
_LIBARCHIVE = "LIBARCHIVE.xattr."

_LENGTH = re.compile(rb"([0-9]{1,18}) ")
_DECIMAL = re.compile(r"[+-]?[0-9]{1,19}", re.ASCII)
_TIME = re.compile(r"([+-]?[0-9]{1,19})(?:\.([0-9]*))?", re.ASCII)
_TEXTS = frozenset({"path", "linkpath", "uname", "gname"})
_OF_MANY = frozenset({"mtime", "uid", "gid"})
_USED = _OF_MANY | {"path", "linkpath", "size"}
_USED_PREFIXES = (SPARSE, _SCHILY, _LIBARCHIVE)


def parse(payload: bytes) -> dict[str, str]:
    """Return the records of an extended header that this reader uses; later ones replace earlier
    ones.

    Raise BrokenArchive as Go's archive/tar does: for a length that is invalid or does not end at a
    newline, a missing key, or a NUL in a key or a name. The repeated records of sparse format 0.0
    are returned as the map of format 0.1.
    """
    records: dict[str, str] = {}
    sparse_map: list[str] = []
    position = 0
    while position < len(payload):
        length = _LENGTH.match(payload, position)
        end = position + int(length[1]) if length else 0
        if length is None or not length.end() < end <= len(payload):
            raise _bad(f"expected the length of a record at byte {position}")
        if payload[end - 1 : end] != b"\n":
            raise _bad(f"expected a newline at byte {end - 1}")
        raw_key, equals, raw_value = payload[length.end() : end - 1].partition(b"=")
        key = raw_key.decode("utf-8", "surrogateescape")
        value = raw_value.decode("utf-8", "surrogateescape")
        if not equals or not key:
            raise _bad(f"expected a key and a value at byte {length.end()}")
        if "\0" in (value if key in _TEXTS else key):
            raise _bad(f"there is a NUL in the record at byte {position}")
        if key in (f"{SPARSE}offset", f"{SPARSE}numbytes"):
            wanted = "numbytes" if len(sparse_map) % 2 else "offset"
            if key != f"{SPARSE}{wanted}" or "," in value:
                raise _bad(f"expected {SPARSE}{wanted} at byte {position}")
            sparse_map.append(value)
        elif key in _USED or key.startswith(_USED_PREFIXES):
            records[key] = value
        position = end
    if sparse_map:
        records[f"{SPARSE}map"] = ",".join(sparse_map)
    return records


def of_many(records: Mapping[str, str]) -> dict[str, str]:
    """Return the records of a global header that apply to all later members.

    Path, link, size and sparse map describe a single member and are omitted. Go applies no global
    records.
    """
    return {key: value for key, value in records.items() if key in _OF_MANY}


def applied(header: Header, records: Mapping[str, str]) -> Header:
    """Return the header with the records applied; ignore empty ones. Raise BrokenArchive."""
    path = records.get("path") or header.name
    changes: dict[str, Any] = {"name": path}
    if target := records.get("linkpath"):
        changes["linkname"] = target
    for key in ("size", "uid", "gid"):
        if value := records.get(key):
            changes[key] = decimal(value, path, key)
    if changes.get("size", 0) < 0:
        raise BrokenArchive(path, f"has a bad PAX header: the size is negative: {changes['size']}")
    if time := records.get("mtime"):
        changes["mtime_ns"] = _nanoseconds(time, path)
    return msgspec.structs.replace(header, **changes)


def xattrs(records: Mapping[str, str]) -> dict[str, bytes]:
    """Return the extended attributes of a member, in the format of star and Go or else of
    libarchive.

    A record of libarchive that is not base64 is ignored.
    """
    found = {}
    for key, value in records.items():
        if key.startswith(_LIBARCHIVE):
            name = urllib.parse.unquote(key.removeprefix(_LIBARCHIVE), errors="surrogateescape")
            try:
                found[name] = base64.b64decode(value + "=" * (-len(value) % 4), validate=True)
            except (binascii.Error, ValueError):
                continue
    for key, value in records.items():
        if key.startswith(_SCHILY):
            found[key.removeprefix(_SCHILY)] = value.encode("utf-8", "surrogateescape")
    return found


def xattr_record(name: str, value: bytes) -> tuple[str, bytes]:
    """Return the record of an extended attribute.

    It is as Go writes it, or as libarchive does for a name with an equals sign, which would end the
    key of Go's record.
    """
    if "=" not in name:
        return f"{_SCHILY}{name}", value
    quoted = urllib.parse.quote(name, safe="", errors="surrogateescape")
    return f"{_LIBARCHIVE}{quoted}", base64.b64encode(value).rstrip(b"=")


def decimal(value: str, member: str, key: str) -> int:
    """Return a decimal number of 64 bits; raise BrokenArchive."""
    if not _DECIMAL.fullmatch(value) or not -MAX_SIZE - 1 <= int(value) <= MAX_SIZE:
        raise BrokenArchive(member, f"has a bad PAX header: expected a number, found {key}={value}")
    return int(value)


def _nanoseconds(value: str, member: str) -> int:
    found = _TIME.fullmatch(value)
    if found is None:
        raise BrokenArchive(member, f"has a bad PAX header: expected a time, found mtime={value}")
    fraction = int((found[2] or "")[:9].ljust(9, "0"))
    seconds = decimal(found[1], member, "mtime") * NS_PER_SECOND
    return seconds - fraction if value.startswith("-") else seconds + fraction


def _bad(reason: str) -> BrokenArchive:
    return BrokenArchive("", f"has a bad PAX header: {reason}")

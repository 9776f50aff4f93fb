"""A fast way through the common members of a tar that are whole in memory.

`tar.TarReader` takes members apart as they arrive, in all their forms. This reads the form that
nearly all members of layers have: a ustar or GNU header of a file, directory or link, with numbers
in octal, and data that has arrived already; in front of it maybe an extended header that holds a
time with a fraction and nothing else. It stops at anything else, for the reader to decide.
"""

import re
from collections.abc import Iterator
from typing import Final

import msgspec
from msgspec.structs import replace

from engine.tar import header_decoder as headers
from engine.tar.header_decoder import BLOCK

_EXTENDED: Final = "extended header"
_KINDS: Final = {b"0": "file", b"1": "hardlink", b"2": "symlink", b"5": "dir", b"x": _EXTENDED}
_WITH_DATA: Final = frozenset({"file", _EXTENDED})
_TIME: Final = re.compile(rb"([0-9]{2}) mtime=([0-9]{1,18})\.([0-9]{1,9})\n")
"""The only record of an extended header."""


class QuickMember(msgspec.Struct, frozen=True, gc=False):
    """A member: its fields as they are in the header, and where its data is in the piece.

    `owner` are the fields of mode, user and group; `extensions` is the number of extended headers
    in front of the member's own.
    """

    kind: str
    name: bytes
    link: bytes
    owner: bytes
    mtime: int
    start: int
    size: int
    nanoseconds: int = 0
    extensions: int = 0


def quick_members(data: memoryview) -> Iterator[QuickMember]:
    """Yield the members at the beginning of `data` that are in the common form and whole."""
    position, end = 0, len(data)
    while position + BLOCK <= end:
        found = _member(data, position)
        if found is not None and found.kind == _EXTENDED:
            found = _with_time(data, found)
        if found is None:
            return
        position = next_header(found)
        if position > end:
            return
        yield found


def next_header(member: QuickMember) -> int:
    """Return where the header behind a member begins."""
    return member.start + member.size + -member.size % BLOCK


def _with_time(data: memoryview, extended: QuickMember) -> QuickMember | None:
    """Return the member behind an extended header, with the time that this one holds."""
    record = _TIME.fullmatch(data[extended.start : extended.start + extended.size])
    if record is None or int(record[1]) != extended.size:
        return None
    position = next_header(extended)
    found = _member(data, position) if position + BLOCK <= len(data) else None
    if found is None or found.kind == _EXTENDED:
        return None
    time, fraction = int(record[2]), int(record[3].ljust(9, b"0"))
    return replace(found, mtime=time, nanoseconds=fraction, extensions=1)


def _member(data: memoryview, position: int) -> QuickMember | None:
    block = bytes(data[position : position + BLOCK])
    kind = _KINDS.get(block[156:157])
    name = block[:100]
    if kind is None or not block[0]:
        return None
    magic = block[257:265]
    if block[345]:
        if magic != headers.USTAR_MAGIC or block[508:512] == headers.STAR_TRAILER:
            return None
        name = block[345:500].partition(b"\0")[0] + b"/" + name
    elif magic not in (headers.USTAR_MAGIC, headers.GNU_MAGIC):
        return None
    size, mtime = _octal(block[124:136]), _octal(block[136:148])
    expected, found = headers.checksums(block)
    if size is None or mtime is None or expected != found:
        return None
    return QuickMember(
        kind,
        name.partition(b"\0")[0],
        block[157:257].partition(b"\0")[0],
        block[100:124],
        mtime,
        position + BLOCK,
        size if kind in _WITH_DATA else 0,
    )


def _octal(field: bytes) -> int | None:
    try:
        return int(field[:11], 8) if field[:11].isdigit() and field[11] in b" \0" else None
    except ValueError:
        return None

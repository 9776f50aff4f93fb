"""A fast way through the common members of a tar that are whole in memory.

`tar.TarReader` takes members apart as they arrive, in all their forms. This reads the form that
nearly all members of layers have: a ustar or GNU header of a file, directory or link, with numbers
in octal, and data that has arrived already. It stops at anything else, for the reader to decide.
"""

from collections.abc import Iterator
from typing import Final

import msgspec

from engine.tar import header_decoder as headers
from engine.tar.header_decoder import BLOCK

_KINDS: Final = {b"0": "file", b"1": "hardlink", b"2": "symlink", b"5": "dir"}


class QuickMember(msgspec.Struct, frozen=True, gc=False):
    """A member: its fields as they are in the header, and where its data is in the piece.

    `owner` are the fields of mode, user and group.
    """

    kind: str
    name: bytes
    link: bytes
    owner: bytes
    mtime: int
    start: int
    size: int


def quick_members(data: memoryview) -> Iterator[QuickMember]:
    """Yield the members at the beginning of `data` that are in the common form and whole."""
    position, end = 0, len(data)
    while position + BLOCK <= end:
        found = _member(bytes(data[position : position + BLOCK]), position + BLOCK)
        if found is None:
            return
        position = next_header(found)
        if position > end:
            return
        yield found


def next_header(member: QuickMember) -> int:
    """Return where the header behind a member begins."""
    return member.start + member.size + -member.size % BLOCK


def _member(block: bytes, start: int) -> QuickMember | None:
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
        start,
        size if kind == "file" else 0,
    )


def _octal(field: bytes) -> int | None:
    try:
        return int(field[:11], 8) if field[:11].isdigit() and field[11] in b" \0" else None
    except ValueError:
        return None

"""Reading tar as its bytes arrive: v7, ustar, GNU and PAX, as Go's archive/tar takes them.

A `TarReader` is fed and yields events; it keeps nothing but the header that it is in, so memory is
bounded by the limits. Two zero blocks end an archive, whatever follows; so does the end of the
bytes between two members. Sparse members are expanded. BrokenArchive names the member at fault.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from engine.archive import headers, sparse
from engine.archive.limits import Limits
from engine.archive.members import Member
from engine.errors import BrokenArchive, LimitExceeded

BLOCK = 512
_ZERO_BLOCK = bytes(BLOCK)
_KINDS = {
    b"0": "file",
    b"7": "file",
    b"\0": "file",
    b"S": "file",
    b"1": "hardlink",
    b"2": "symlink",
    b"3": "character device",
    b"4": "block device",
    b"5": "dir",
    b"6": "fifo",
}
_LONG_NAMES = {b"L": "path", b"K": "linkpath"}
_EXTENSIONS = frozenset({b"L", b"K", b"x", b"g"})


@dataclass(frozen=True, slots=True)
class MemberStart:
    """A member begins."""

    member: Member


@dataclass(frozen=True, slots=True)
class MemberData:
    """Some of the data of the member that began last; valid until the next feed."""

    data: memoryview


@dataclass(frozen=True, slots=True)
class MemberEnd:
    """The member that began last is complete."""


Event = MemberStart | MemberData | MemberEnd
_END = MemberEnd()


class TarReader:
    """One archive, being read."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._block = bytearray()
        self._zero_blocks = 0
        self._left = 0
        self._padding = 0
        self._member: Member | None = None
        self._sparse: sparse.Sparse | None = None
        self._map: tuple[Member, int, list[sparse.Segment]] | None = None
        self._extension = b""
        self._payload = bytearray()
        self._extended = 0
        self._records: dict[str, str] = {}
        self.members = 0

    @property
    def ended(self) -> bool:
        """Whether the end of the archive has been read: the rest is ignored."""
        return self._zero_blocks >= 2

    def feed(self, data: memoryview) -> Iterator[Event]:
        """What the next bytes bring; to be exhausted before the next call."""
        while data and not self.ended:
            if self._left:
                taken, data = data[: self._left], data[self._left :]
                self._left -= len(taken)
                yield from self._take(taken)
            elif self._padding:
                skipped = min(self._padding, len(data))
                self._padding -= skipped
                data = data[skipped:]
            else:
                wanted = BLOCK - len(self._block)
                self._block += data[:wanted]
                data = data[wanted:]
                if len(self._block) == BLOCK:
                    block = bytes(self._block)
                    self._block.clear()
                    yield from self._header(block)

    def finish(self) -> None:
        """BrokenArchive if the bytes have ended within a member or a header."""
        if self._member is not None:
            raise BrokenArchive(self._member.name, f"is truncated: {self._left} bytes are missing")
        if self._block or self._extension or self._records or self._map:
            raise BrokenArchive("", "is truncated: it ends within a header")

    # -- data -------------------------------------------------------------------------------------

    def _take(self, taken: memoryview) -> Iterator[Event]:
        if self._extension:
            self._payload += taken
        elif self._sparse is not None:
            for part in self._sparse.take(taken):
                yield MemberData(part)
        else:
            yield MemberData(taken)
        if not self._left:
            yield from self._end()

    def _end(self) -> Iterator[Event]:
        if self._extension:
            self._end_extension()
            return
        if self._sparse is not None:
            for part in self._sparse.end():
                yield MemberData(part)
        self._member = self._sparse = None
        yield _END

    # -- headers ----------------------------------------------------------------------------------

    def _header(self, block: bytes) -> Iterator[Event]:
        if self._map is not None:
            yield from self._more_map(block)
            return
        if block == _ZERO_BLOCK:
            self._zero_blocks += 1
            return
        if self._zero_blocks:
            raise BrokenArchive("", "has a single block of zeros between two members")
        headers.check_sum(block)
        kind = block[156:157]
        size = headers.number(block[124:136], "size")
        if kind in _EXTENSIONS:
            self._begin_extension(kind, size)
        else:
            yield from self._begin(block, kind, size)

    def _begin_extension(self, kind: bytes, size: int) -> None:
        self._extended += size
        limit = self._limits.max_header_bytes
        if self._extended > limit:
            what = "bytes of one member's extended headers"
            raise LimitExceeded("archive", what, limit, self._extended)
        self._extension = kind
        self._expect(size)
        if not size:
            self._end_extension()

    def _end_extension(self) -> None:
        kind, payload = self._extension, bytes(self._payload)
        self._extension = b""
        self._payload.clear()
        if kind in _LONG_NAMES:
            self._records[_LONG_NAMES[kind]] = headers.text(payload)
        elif kind == b"x":
            self._records |= headers.pax_records(payload)
        else:
            headers.pax_records(payload)

    def _begin(self, block: bytes, flag: bytes, size: int) -> Iterator[Event]:
        self.members += 1
        if self.members > self._limits.max_members:
            raise LimitExceeded("archive", "members", self._limits.max_members, self.members)
        records, self._records, self._extended = self._records, {}, 0
        name = records.get("GNU.sparse.name") or records.get("path") or headers.name(block)
        linkname = records.get("linkpath") or headers.text(block[157:257])
        size = headers.decimal(records["size"], "size") if "size" in records else size
        kind = _KINDS.get(flag, "other")
        if flag in (b"\0", b"0") and name.endswith("/"):
            kind = "dir"
        if kind not in ("file", "other"):
            size = 0
        if headers.is_gnu_sparse(block):
            member = Member(name, kind, headers.number(block[483:495], "size"))
            segments = headers.gnu_segments(block[386:482])
            if block[482]:
                self._map = (member, size, segments)
            else:
                yield from self._start(member, size, sparse.Sparse(name, member.size, segments))
            return
        own = records.get("GNU.sparse.realsize") or records.get("GNU.sparse.size")
        real = headers.decimal(own, "size") if own else size
        expander = sparse.from_pax(name, real, records) if kind == "file" else None
        yield from self._start(
            Member(name, kind, real if expander else size, linkname), size, expander
        )

    def _more_map(self, block: bytes) -> Iterator[Event]:
        assert self._map is not None
        member, size, segments = self._map
        segments += headers.gnu_segments(block[:504])
        if not block[504]:
            self._map = None
            expander = sparse.Sparse(member.name, member.size, segments)
            yield from self._start(member, size, expander)
        elif len(segments) > self._limits.max_header_bytes:
            what = "segments of a sparse member"
            raise LimitExceeded(member.name, what, self._limits.max_header_bytes, len(segments))

    def _start(
        self, member: Member, stored: int, expander: sparse.Sparse | None
    ) -> Iterator[Event]:
        self._member, self._sparse = member, expander
        self._expect(stored)
        yield MemberStart(member)
        if not stored:
            yield from self._end()

    def _expect(self, size: int) -> None:
        self._left = size
        self._padding = -size % BLOCK

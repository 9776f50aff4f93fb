"""A streaming reader of tar archives: v7, ustar, GNU and PAX, as strict as Go's archive/tar.

A `TarReader` is fed with bytes and yields events. It stores nothing but the header in progress, so
its memory is bounded by the limits. The archive ends at two zero blocks, after which nothing is
read, or at the end of the input between two members. Of sparse members it tells the data and the
lengths of the holes. BrokenArchive names the member at fault; after an error the reader cannot be
used.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import chain

import msgspec

from engine.errors import BrokenArchive, LimitExceeded
from engine.limits import Expansion, Limits
from engine.tar import header_decoder as headers
from engine.tar import pax, sparse
from engine.tar.header_decoder import BLOCK, Header
from engine.tar.member import NO_XATTRS, Member
from engine.tar.sparse import Expander, Part, Segment

_ZERO_BLOCK = bytes(BLOCK)
_NOTHING = memoryview(b"")
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
_WITH_DATA = frozenset({"file", "other"})
_LONG_NAMES = frozenset({b"L", b"K"})
_EXTENSIONS = _LONG_NAMES | {b"x", b"g"}

_GnuMap = tuple[Member, int, list[Segment]]
"""A member with an incomplete sparse map, its stored size in bytes, and the segments so far."""


class MemberStart(msgspec.Struct, frozen=True, gc=False):
    """The start of a member."""

    member: Member


class MemberData(msgspec.Struct, frozen=True, gc=False):
    """A piece of the data of the current member; valid until the next call of `feed`."""

    data: memoryview


class MemberHole(msgspec.Struct, frozen=True, gc=False):
    """A hole in the data of the current member: zeros, which `sparse.zeros` yields."""

    size: int


class MemberEnd(msgspec.Struct, frozen=True, gc=False):
    """The end of the current member."""


Event = MemberStart | MemberData | MemberHole | MemberEnd
_END = (MemberEnd(),)


class TarReader:
    """A reader of one archive; for one thread at a time."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._block = bytearray()
        self._zero_blocks = 0
        self._left = 0
        self._padding = 0
        self._member: Member | None = None
        self._expander: Expander | None = None
        self._gnu_map: _GnuMap | None = None
        self._extension: Header | None = None
        self._payload = bytearray()
        self._long_names: dict[bytes, str] = {}
        self._records: dict[str, str] | None = None
        self._global_records: dict[str, str] = {}
        self._previous = ""
        self.fed = 0
        """The number of bytes that were fed, or passed over."""
        self.header_end = 0
        """The offset in the stream at which the last header block ends."""
        self._extensions = 0
        self._expansion = Expansion(limits.max_expanded_bytes)
        self.members = 0
        self.rest = _NOTHING
        """The bytes of the last feed that follow the end of the archive."""
        self.offset = 0
        """The offset in the stream at which the headers of the current member start."""
        self.data_start = 0
        """The offset in the stream of the stored data of the member that ended last."""
        self.segments: Sequence[Segment] | None = None
        """The stored parts of the member that ended last, None if it is not sparse."""

    @property
    def ended(self) -> bool:
        """Whether the end of the archive has been read; `rest` is what follows it."""
        return self._zero_blocks >= 2

    @property
    def at_boundary(self) -> bool:
        """Whether the archive may end here: between members, with no header in progress."""
        begun = self._block or self._extension or self._long_names or self._records is not None
        return self._member is None and not begun

    @property
    def current(self) -> str:
        """The name of the member in progress, "" between members."""
        return self._member.name if self._member else ""

    def feed(self, data: memoryview) -> Iterator[Event]:
        """Yield the events of the next bytes; exhaust it before the next call.

        Raise BrokenArchive or LimitExceeded.
        """
        position, end = 0, len(data)
        while position < end and not self.ended:
            if self._left:
                taken = data[position : position + self._left]
                position += len(taken)
                self._left -= len(taken)
                if self._extension is not None:
                    self._payload += taken
                elif self._expander is not None:
                    yield from map(_event, self._expander.take(taken))
                elif self._member is not None and self._member.kind == "file":
                    yield MemberData(taken)
                if not self._left:
                    yield from self._end()
            elif self._padding:
                skipped = min(self._padding, end - position)
                self._padding -= skipped
                position += skipped
            else:
                wanted = BLOCK - len(self._block)
                self._block += data[position : position + wanted]
                position += wanted
                if len(self._block) >= BLOCK:
                    self.header_end = self.fed + position
                    block = bytes(self._block)
                    self._block.clear()
                    yield from self._take_block(block)
        self.fed += end
        self.rest = data[position:] if position < end else _NOTHING

    @property
    def wanted(self) -> int:
        """The bytes that are missing of the header in progress, or of data up to the next one."""
        return self._left + self._padding or BLOCK - len(self._block)

    @property
    def may_skip(self) -> bool:
        """Whether `skip` may be called: the next bytes are a header that nothing precedes."""
        return self.at_boundary and not (self._zero_blocks or self._global_records or self._padding)

    @property
    def room(self) -> int:
        """The number of members that may still come, with an extended header each."""
        return self._limits.max_members - max(self.members, self._extensions)

    def skip(self, members: int, extensions: int, size: int, last: str) -> None:
        """Pass over members that somebody else has read: their number, at most `room`, that of
        their extended headers, their size in bytes, headers and padding, and the last one's name.
        """
        self.members += members
        self._extensions += extensions
        self.fed += size
        self._previous = last

    def restart(self) -> None:
        """Start another archive after the end of this one; the limits apply to both together."""
        self._zero_blocks = 0
        self._global_records = {}

    def finish(self) -> None:
        """Raise BrokenArchive if the archive is incomplete; feeding may continue after it."""
        if self.at_boundary:
            return
        if self._member is None:
            raise BrokenArchive("", f"is truncated: it ends within a header{self._place}")
        if self._left == 1:
            missing = "its last byte is"
        else:
            missing = f"{self._left} bytes of it are" if self._left else "parts of its header are"
        raise BrokenArchive(self._member.name, f"is truncated: {missing} missing")

    # -- headers ----------------------------------------------------------------------------------

    @property
    def _place(self) -> str:
        return f" behind {self._previous}" if self.members else ""

    def _take_block(self, block: bytes) -> Iterable[Event]:
        if self._gnu_map is not None:
            return self._extend_map(self._gnu_map, block[:505])
        if block == _ZERO_BLOCK:
            self._zero_blocks += 1
            return ()
        if self._zero_blocks:
            raise BrokenArchive("", f"has a single block of zeros{self._place}")
        expected, found = headers.checksums(block)
        if expected != found:
            what = f"has a damaged header{self._place}" if self.members else "is not a tar archive"
            said = f"{block[148:156]!r}" if found is None else found
            raise BrokenArchive("", f"{what}: expected the checksum {expected}, found {said}")
        if self._records is None and not self._long_names:
            self.offset = self.header_end - BLOCK
        header = headers.parse(block)
        if header.flag in _EXTENSIONS:
            return self._begin_extension(header)
        return self._begin(self._extended(header), block)

    def _begin_extension(self, header: Header) -> Iterable[Event]:
        self._extensions += 1
        if self._extensions > (most := self._limits.max_members):
            raise LimitExceeded("archive", "extended headers", most, self._extensions)
        if header.flag in _LONG_NAMES:
            what, limit = "bytes of a name", self._limits.max_name_bytes
        else:
            what, limit = "bytes of a PAX header", self._limits.max_header_bytes
        if header.size > limit:
            raise LimitExceeded(header.name, what, limit, header.size)
        self._extension = header
        return self._expect(header.size)

    def _end_extension(self, flag: bytes, payload: bytes) -> None:
        if flag in _LONG_NAMES:
            self._long_names[flag] = headers.text(payload)
        elif flag == b"x":
            self._records = pax.parse(payload)
        else:
            self._global_records |= pax.of_many(pax.parse(payload))

    def _extended(self, header: Header) -> Header:
        """Return the header with the extended headers before it applied."""
        records = self._global_records | (self._records or {})
        if records:
            header = pax.applied(header, records)
            self._check_name(header.name)
            self._check_name(header.linkname)
        if self._long_names:
            name = self._long_names.get(b"L") or header.name
            linkname = self._long_names.get(b"K") or header.linkname
            header = msgspec.structs.replace(header, name=name, linkname=linkname)
            self._long_names = {}
        return header

    def _check_name(self, name: str) -> None:
        size, limit = len(name.encode("utf-8", "surrogateescape")), self._limits.max_name_bytes
        if size > limit:
            raise LimitExceeded(name, "bytes of a name", limit, size)

    # -- members ----------------------------------------------------------------------------------

    def _count_member(self) -> None:
        self.members += 1
        if self.members > self._limits.max_members:
            raise LimitExceeded("archive", "members", self._limits.max_members, self.members)

    def _begin(self, header: Header, block: bytes) -> Iterable[Event]:
        self._count_member()
        records, self._records = self._records, None
        kind = _KINDS.get(header.flag, "other")
        if header.flag == b"\0" and header.name.endswith("/"):
            kind = "dir"
        stored = header.size if kind in _WITH_DATA else 0
        if header.flag == b"S":
            return self._begin_gnu_sparse(header, block, records)
        if records and kind == "file":
            found = sparse.from_pax(header.name, stored, records, self._limits.max_header_bytes)
            if found is not None:
                name, size, expander = found
                self._check_name(name)
                return self._start(_member(header, name, kind, size, records), stored, expander)
        return self._start(_member(header, header.name, kind, stored, records), stored, None)

    def _begin_gnu_sparse(
        self, header: Header, block: bytes, records: Mapping[str, str] | None
    ) -> Iterable[Event]:
        if not header.gnu:
            raise BrokenArchive(header.name, "is sparse in a format that has no sparse members")
        size = headers.number(block[483:495], header.name, "sparse size")
        known: _GnuMap = (_member(header, header.name, "file", size, records), header.size, [])
        return self._extend_map(known, block[386:483])

    def _extend_map(self, known: "_GnuMap", piece: bytes) -> Iterable[Event]:
        """Add a piece of a GNU sparse map, whose last byte states whether another block follows."""
        member, stored, segments = known
        segments += sparse.gnu_segments(piece[:-1], member.name)
        size, limit = len(segments) * sparse.GNU_SEGMENT, self._limits.max_header_bytes
        if size > limit:
            raise LimitExceeded(member.name, "bytes of its sparse map", limit, size)
        if piece[-1]:
            self._member, self._gnu_map = member, known
            return ()
        self._gnu_map = None
        return self._start(member, stored, Expander(member.name, member.size, segments))

    def _start(self, member: Member, stored: int, expander: Expander | None) -> Iterable[Event]:
        if expander is not None:
            self._expansion.add(member.size)
        self._member, self._expander = member, expander
        return chain((MemberStart(member),), self._expect(stored))

    # -- data ------------------------------------------------------------------------------------

    def _expect(self, size: int) -> Iterable[Event]:
        self._left = size
        self._padding = -size % BLOCK
        return () if size else self._end()

    def _end(self) -> Iterable[Event]:
        if self._extension is not None:
            flag, payload = self._extension.flag, bytes(self._payload)
            self._extension = None
            self._payload.clear()
            self._end_extension(flag, payload)
            return ()
        expander, self._previous = self._expander, self.current
        self.data_start = self.header_end + (expander.map_size if expander else 0)
        self.segments = expander.stored if expander else None
        self._member = self._expander = None
        return chain(map(_event, expander.end()), _END) if expander else _END


def _event(part: Part) -> Event:
    return MemberHole(part) if isinstance(part, int) else MemberData(part)


def _member(
    header: Header, name: str, kind: str, size: int, records: Mapping[str, str] | None
) -> Member:
    return Member(
        name,
        kind,
        size,
        header.linkname,
        header.mode,
        header.mtime_ns,
        header.uid,
        header.gid,
        header.device,
        pax.xattrs(records) if records else NO_XATTRS,
    )

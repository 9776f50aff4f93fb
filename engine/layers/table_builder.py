"""Build the table of a layer while its uncompressed bytes pass by."""

import re
from array import array
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from itertools import accumulate
from posixpath import normpath
from typing import Final

from engine.compression.checksum import FileChecksum, library
from engine.errors import BrokenArchive, LimitExceeded
from engine.layers.quick_members import QuickMember, next_header, quick_members
from engine.layers.table import (
    CHUNK,
    Attributes,
    LayerTable,
    Point,
    Segment,
    Texts,
)
from engine.limits import Limits
from engine.tar import header_decoder as headers
from engine.tar.member import NO_XATTRS, Member
from engine.tar.reader import MemberData, MemberEnd, MemberHole, MemberStart, TarReader
from engine.units import NS_PER_SECOND

_FIRST_TIME: Final = -(1 << 63)
_LAST_TIME: Final = (1 << 63) - 1
_OVERLAY: Final = ("trusted.overlay.", "user.overlay.")
"""Attributes that would act on an overlayfs that is mounted over the files."""
_NAME: Final = re.compile(r"(?:user|trusted|security|system)\.[^\0]+", re.DOTALL)
_LONGEST_NAME: Final = 255
_LONGEST_VALUE: Final = 64 << 10
_LONGEST_LIST: Final = (64 << 10) - 256
"""The limits of Linux on a name, a value and the list of a file's names, in bytes. Room in the list
is left for the attributes that a mount adds.
"""
_PERMISSIONS: Final = 0o7777
_SEGMENT: Final = 150
_ATTRIBUTES: Final = 200
"""The approximate memory of a segment, and of attributes or one of their xattrs, in bytes."""

_Row = tuple[bytes, bytes, int, int, int, int, int, int]
"""An entry: its path and link, the position of its attributes, the seconds and nanoseconds of its
time, its size, start and checksum.
"""


class TableBuilder:
    """A table in progress; for one thread at a time.

    A tar that is damaged, or over the limits, ends the entries and not the table.
    """

    def __init__(self, limits: Limits) -> None:
        self._longest_name = limits.max_name_bytes
        self._reader = TarReader(limits)
        self._checksums = _Checksums()
        self._columns = Columns(limits.max_table_bytes)
        self._member: Member
        self._damage = ""

    def feed(self, data: memoryview) -> None:
        """Take the next uncompressed bytes of the layer."""
        self._columns.functions = self._checksums.functions = library(
            self._checksums.size + len(data)
        )
        self._checksums.add(data)
        if not self._damage and not self._reader.ended:
            try:
                self._parse(data)
            except BrokenArchive as error:
                self._damage = _reason(error)
            except LimitExceeded as error:
                self._damage = str(error)

    def result(self, compression: str, points: tuple[Point, ...]) -> LayerTable:
        """Return the table of the bytes so far. More may be fed afterwards."""
        damage = self._damage
        if not damage:
            try:
                self._reader.finish()
            except BrokenArchive as error:
                damage = _reason(error)
        checksums = self._checksums.result()
        return self._columns.table(compression, self._checksums.size, damage, checksums, points)

    def _parse(self, data: memoryview) -> None:
        reader = self._reader
        while data and not reader.ended:
            if reader.may_skip:
                data = self._parse_quickly(data)
            wanted = reader.wanted
            self._parse_slowly(data[:wanted])
            data = data[wanted:]

    def _parse_quickly(self, data: memoryview) -> memoryview:
        """Take the members that are whole in `data`; return what follows them."""
        reader = self._reader
        members = quick_members(data, reader.room, self._longest_name)
        if not members:
            return data
        self._columns.add_quick(members, reader.fed, data)
        end = next_header(members[-1])
        _, last, *_ = members[-1]
        extensions = sum(extensions for *_, extensions in members)
        reader.skip(len(members), extensions, end, _text(last))
        return data[end:]

    def _parse_slowly(self, data: memoryview) -> None:
        reader, columns = self._reader, self._columns
        for event in reader.feed(data):
            match event:
                case MemberData(piece):
                    columns.checksum().update(piece)
                case MemberHole(size):
                    columns.checksum().update_zeros(size)
                case MemberStart(member):
                    self._member = member
                case MemberEnd():
                    columns.add(self._member, reader.data_start, reader.segments)


class _Checksums:
    """The checksum of each chunk."""

    def __init__(self) -> None:
        self.size = 0
        self._found = array("I")
        self._current = 0
        self.functions = library(0)

    def add(self, data: memoryview) -> None:
        while data:
            part = data[: CHUNK - self.size % CHUNK]
            self._current = self.functions.crc32(part, self._current)
            self.size += len(part)
            if not self.size % CHUNK:
                self._found.append(self._current)
                self._current = 0
            data = data[len(part) :]

    def result(self) -> "array[int]":
        whole = self._found
        return whole + array("I", [self._current]) if self.size % CHUNK else whole[:]


class Columns:
    """The columns of the entries so far."""

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self.functions = library(0)
        self._paths = bytearray()
        self._links = bytearray()
        self._shared: dict[object, int] = {}
        self._known: list[Attributes] = []
        self._path_lengths, self._link_lengths = array("I"), array("I")
        self._attributes = array("I")
        self._seconds, self._nanoseconds = array("q"), array("I")
        self._sizes, self._starts = array("q"), array("q")
        self._checksums = array("Q")
        self._segments: dict[int, tuple[Segment, ...]] = {}
        self._bytes = 0
        self._current: FileChecksum | None = None

    def checksum(self) -> FileChecksum:
        """Return the checksum of the member that `add` adds next, which takes its content."""
        if self._current is None:
            self._current = FileChecksum(self.functions)
        return self._current

    def add(self, member: Member, start: int, segments: Sequence[tuple[int, int]] | None) -> None:
        """Add a member whose stored content begins at `start`."""
        path = clean(_bytes(member.name))
        link = _bytes(member.linkname)
        if segments is not None:
            found = segments or ((member.size, 0),)
            self._weigh(path, _SEGMENT * len(found))
            self._segments[len(self._sizes)] = tuple(Segment(*one) for one in found)
        shared = self._place_of(_attributes(member), path)
        seconds, nanoseconds = divmod(member.mtime_ns, NS_PER_SECOND)
        seconds = min(max(seconds, _FIRST_TIME), _LAST_TIME)
        checksum, self._current = self._current, None
        value = checksum.value if checksum else 0
        if member.kind == "hardlink" and link:
            link = clean(link)
        self._weigh(path, len(path) + len(link))
        self._extend([(path, link, shared, seconds, nanoseconds, member.size, start, value)])

    def add_quick(self, members: Iterable[QuickMember], base: int, data: memoryview) -> None:
        """Add members that are whole in `data`, the uncompressed bytes from offset `base` on."""
        crc32, adler32 = self.functions.crc32, self.functions.adler32
        rows: list[_Row] = []
        try:
            for member in members:
                kind, name, link, owner, start, size, seconds, nanoseconds, _ = member
                path = clean(name)
                if kind == "hardlink" and link:
                    link = clean(link)
                shared = self._position((kind, owner), path, partial(_owner_of, member))
                self._weigh(path, len(path) + len(link))
                checksum = 0
                if size:
                    content = data[start : start + size]
                    checksum = crc32(content) << 32 | adler32(content)
                rows.append(
                    (path, link, shared, seconds, nanoseconds, size, base + start, checksum)
                )
        finally:
            self._extend(rows)

    def table(
        self,
        compression: str,
        size: int,
        damage: str,
        checksums: "array[int]",
        points: tuple[Point, ...],
    ) -> LayerTable:
        return LayerTable(
            compression,
            size,
            damage,
            Texts(bytes(self._paths), array("I", accumulate(self._path_lengths))),
            Texts(bytes(self._links), array("I", accumulate(self._link_lengths))),
            tuple(self._known),
            self._attributes[:],
            self._seconds[:],
            self._nanoseconds[:],
            self._sizes[:],
            self._starts[:],
            self._checksums[:],
            dict(self._segments),
            checksums,
            points,
        )

    def _extend(self, rows: "Sequence[_Row]") -> None:
        if not rows:
            return
        paths, links, shared, seconds, nanoseconds, sizes, starts, checksums = zip(
            *rows, strict=True
        )
        self._paths += b"".join(paths)
        self._path_lengths.extend(map(len, paths))
        self._links += b"".join(links)
        self._link_lengths.extend(map(len, links))
        self._attributes.extend(shared)
        self._seconds.extend(seconds)
        self._nanoseconds.extend(nanoseconds)
        self._sizes.extend(sizes)
        self._starts.extend(starts)
        self._checksums.extend(checksums)

    def _position(self, key: object, path: bytes, attributes: Callable[[], Attributes]) -> int:
        """Return the position of attributes among the shared ones; `key` stands for them, which
        other headers may have in another form.
        """
        found = self._shared.get(key)
        if found is None:
            self._weigh(path, _ATTRIBUTES)
            found = self._shared[key] = self._place_of(attributes(), path)
        return found

    def _place_of(self, made: Attributes, path: bytes) -> int:
        """Return the position of attributes among the shared ones."""
        key = (made.kind, made.mode, made.uid, made.gid, made.device, *sorted(made.xattrs.items()))
        found = self._shared.get(key)
        if found is None:
            text = sum(_ATTRIBUTES + len(k) + len(v) for k, v in made.xattrs.items())
            self._weigh(path, _ATTRIBUTES + text)
            found = self._shared[key] = len(self._known)
            self._known.append(made)
        return found

    def _weigh(self, path: bytes, size: int) -> None:
        self._bytes += size
        if self._bytes > self._max_bytes:
            what = "bytes of names of a layer"
            raise LimitExceeded(_text(path), what, self._max_bytes, self._bytes)


def _attributes(member: Member) -> Attributes:
    xattrs = _kept(member.xattrs) if member.xattrs else NO_XATTRS
    mode = member.mode & _PERMISSIONS
    return Attributes(member.kind, mode, member.uid, member.gid, member.device, xattrs)


def _kept(xattrs: Mapping[str, bytes]) -> Mapping[str, bytes]:
    """Return the attributes that a file of Linux can have, as many as it can list."""
    kept, listed = {}, 0
    for name, value in xattrs.items():
        size = len(_bytes(name)) + 1
        if (
            _NAME.fullmatch(name)
            and not name.startswith(_OVERLAY)
            and size <= _LONGEST_NAME + 1
            and len(value) <= _LONGEST_VALUE
            and listed + size <= _LONGEST_LIST
        ):
            kept[name] = value
            listed += size
    return kept or NO_XATTRS


def _owner_of(member: QuickMember) -> Attributes:
    """Return the attributes of a member; raise BrokenArchive."""
    kind, raw, _, owner, *_ = member
    name = _text(raw)
    mode = headers.number(owner[:8], name, "mode")
    uid, gid = headers.number(owner[8:16], name, "owner"), headers.number(owner[16:], name, "group")
    return Attributes(kind, mode & _PERMISSIONS, uid, gid)


def clean(name: bytes) -> bytes:
    """Return a path of an archive relative to the root, without `.` and `..`."""
    name = name.removeprefix(b"./").rstrip(b"/")
    if name[:1] in (b"", b".", b"/") or b"/." in name or b"//" in name:
        return normpath(b"/" + name).lstrip(b"/")
    return name


def _text(name: bytes) -> str:
    return name.decode("utf-8", "surrogateescape")


def _reason(error: BrokenArchive) -> str:
    return f"{error.member}: {error.reason}" if error.member else error.reason


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")

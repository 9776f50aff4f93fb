"""Build the table of a layer while its uncompressed bytes pass by."""

import hashlib
from array import array
from collections.abc import Sequence
from posixpath import normpath
from typing import Final

from engine.compression.checksum import crc32
from engine.errors import BrokenArchive, LimitExceeded
from engine.layers.table import (
    CHUNK,
    DIGEST_SIZE,
    NO_DIGEST,
    Attributes,
    LayerTable,
    Point,
    Segment,
    Texts,
)
from engine.limits import Limits
from engine.tar.member import NO_XATTRS, Member
from engine.tar.reader import MemberData, MemberEnd, MemberStart, TarReader
from engine.units import NS_PER_SECOND

_FIRST_TIME: Final = -(1 << 63)
_LAST_TIME: Final = (1 << 63) - 1
_OVERLAY: Final = ("trusted.overlay.", "user.overlay.")
"""Attributes that would act on an overlayfs that is mounted over the files."""
_SEGMENT: Final = 150
_ATTRIBUTES: Final = 200
"""The approximate memory of a segment, and of attributes or one of their xattrs, in bytes."""


class TableBuilder:
    """A table in progress; for one thread at a time.

    A tar that is damaged, or over the limits, ends the entries and not the table.
    """

    def __init__(self, limits: Limits) -> None:
        self._reader = TarReader(limits)
        self._checksums = _Checksums()
        self._columns = Columns(limits.max_table_bytes)
        self._member: Member
        self._damage = ""

    def feed(self, data: memoryview) -> None:
        """Take the next uncompressed bytes of the layer."""
        self._checksums.add(data)
        if not self._damage and not self._reader.ended:
            try:
                self._parse(data)
            except BrokenArchive as error:
                self._damage = _reason(error)
            except LimitExceeded as error:
                self._damage = str(error)

    def result(self, compression: str, points: tuple[Point, ...]) -> LayerTable:
        """Return the table of the bytes so far."""
        if not self._damage:
            try:
                self._reader.finish()
            except BrokenArchive as error:
                self._damage = _reason(error)
        checksums = self._checksums.result()
        return self._columns.table(
            compression, self._checksums.size, self._damage, checksums, points
        )

    def _parse(self, data: memoryview) -> None:
        reader, columns = self._reader, self._columns
        for event in reader.feed(data):
            match event:
                case MemberData(piece):
                    columns.hash(piece)
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

    def add(self, data: memoryview) -> None:
        while data:
            part = data[: CHUNK - self.size % CHUNK]
            self._current = crc32(part, self._current)
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
        self._paths = bytearray()
        self._path_ends = array("I")
        self._links = bytearray()
        self._link_ends = array("I")
        self._shared: dict[object, int] = {}
        self._known: list[Attributes] = []
        self._attributes = array("I")
        self._seconds = array("q")
        self._nanoseconds = array("I")
        self._sizes = array("q")
        self._starts = array("q")
        self._digests = bytearray()
        self._segments: dict[int, tuple[Segment, ...]] = {}
        self._bytes = 0
        self._hash = hashlib.sha256()
        self._hashed = False

    def hash(self, piece: memoryview) -> None:
        """Take content of the member that `add` adds next."""
        self._hash.update(piece)
        self._hashed = True

    def add(self, member: Member, start: int, segments: Sequence[tuple[int, int]] | None) -> None:
        link = clean(member.linkname) if member.kind == "hardlink" else _bytes(member.linkname)
        path = clean(member.name)
        self._weigh(member, len(path) + len(link) + _SEGMENT * len(segments or ()))
        if segments is not None:
            found = segments or ((member.size, 0),)
            self._segments[len(self._sizes)] = tuple(Segment(*one) for one in found)
        self._paths += path
        self._path_ends.append(len(self._paths))
        self._links += link
        self._link_ends.append(len(self._links))
        self._attributes.append(self._attributes_of(member))
        seconds, nanoseconds = divmod(member.mtime_ns, NS_PER_SECOND)
        self._seconds.append(min(max(seconds, _FIRST_TIME), _LAST_TIME))
        self._nanoseconds.append(nanoseconds)
        self._sizes.append(member.size)
        self._starts.append(start)
        self._digests += self._hash.digest()[:DIGEST_SIZE] if self._hashed else NO_DIGEST
        if self._hashed:
            self._hash, self._hashed = hashlib.sha256(), False

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
            Texts(bytes(self._paths), self._path_ends),
            Texts(bytes(self._links), self._link_ends),
            tuple(self._known),
            self._attributes,
            self._seconds,
            self._nanoseconds,
            self._sizes,
            self._starts,
            bytes(self._digests),
            self._segments,
            checksums,
            points,
        )

    def _attributes_of(self, member: Member) -> int:
        """Return the position of the attributes of a member among the shared ones."""
        mode = member.mode & 0o7777
        key: object = (member.kind, mode, member.uid, member.gid, member.device)
        if member.xattrs:
            key = (key, *sorted(member.xattrs.items()))
        found = self._shared.get(key)
        if found is None:
            xattrs = {k: v for k, v in member.xattrs.items() if not k.startswith(_OVERLAY)}
            size = _ATTRIBUTES + sum(_ATTRIBUTES + len(k) + len(v) for k, v in xattrs.items())
            self._weigh(member, size)
            found = self._shared[key] = len(self._known)
            self._known.append(
                Attributes(
                    member.kind, mode, member.uid, member.gid, member.device, xattrs or NO_XATTRS
                )
            )
        return found

    def _weigh(self, member: Member, size: int) -> None:
        self._bytes += size
        if self._bytes > self._max_bytes:
            what = "bytes of names of a layer"
            raise LimitExceeded(member.name, what, self._max_bytes, self._bytes)


def clean(name: str) -> bytes:
    """Return a path of an archive relative to the root, without `.` and `..`."""
    return _bytes(normpath(f"/{name}").lstrip("/"))


def _reason(error: BrokenArchive) -> str:
    return f"{error.member}: {error.reason}" if error.member else error.reason


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")

"""Expansion of sparse tar members: old GNU headers and PAX formats 0.0, 0.1 and 1.0.

A sparse member stores its segments one after another; the holes between them are zeros.
"""

from collections.abc import Iterator, Mapping, Sequence

from engine.errors import BrokenArchive, LimitExceeded
from engine.limits import BUFFER_SIZE
from engine.tar import header_decoder as headers
from engine.tar import pax

_ZEROS = memoryview(bytes(BUFFER_SIZE))
GNU_SEGMENT = 24
"""The size of a segment in an old GNU map, in bytes."""
_MAX_DIGITS = 19

Segment = tuple[int, int]
"""The offset and the length of a segment in bytes."""
Part = memoryview | int
"""Stored bytes, or the length of a hole in bytes."""


class Expander:
    """An expansion of one sparse member."""

    def __init__(self, name: str, size: int, segments: Sequence[Segment]) -> None:
        """Raise BrokenArchive if segments overlap, are out of order or exceed `size` bytes."""
        self.name = name
        self._size = size
        self._position = 0
        self.map_size = 0
        """The bytes of stored data that the map takes, in PAX format 1.0."""
        self._set(segments)

    def take(self, stored: memoryview) -> Iterator[Part]:
        """Yield the parts that follow from the next stored bytes."""
        while stored:
            if not self._segments:
                raise BrokenArchive(self.name, "has more data than its sparse map says")
            start, length = self._segments[-1]
            yield from self._hole_until(start)
            part, stored = stored[:length], stored[length:]
            self._position += len(part)
            if len(part) < length:
                self._segments[-1] = (start + len(part), length - len(part))
            else:
                self._segments.pop()
            yield part

    def end(self) -> Iterator[Part]:
        """Yield the final hole; raise BrokenArchive if stored bytes are missing."""
        if self._segments:
            raise BrokenArchive(self.name, "has less data than its sparse map says")
        yield from self._hole_until(self._size)

    def _set(self, segments: Sequence[Segment]) -> None:
        if self._size < 0:
            raise BrokenArchive(self.name, f"has a bad sparse map: the size is {self._size}")
        end = 0
        for start, length in segments:
            if start < end or length < 0 or start + length > self._size:
                found = f"{length} bytes at {start}"
                raise BrokenArchive(
                    self.name,
                    f"has a bad sparse map: expected {end} to {self._size}, found {found}",
                )
            end = start + length
        self.stored = [segment for segment in segments if segment[1]]
        """The segments with data, in order."""
        self._segments = self.stored[::-1]

    def _hole_until(self, offset: int) -> Iterator[int]:
        if self._position < offset:
            hole, self._position = offset - self._position, offset
            yield hole


class MappedExpander(Expander):
    """An expansion in PAX format 1.0, where the map precedes the data.

    The map consists of decimal lines, padded to whole blocks.
    """

    def __init__(self, name: str, size: int, max_map_bytes: int) -> None:
        super().__init__(name, size, ())
        self._max_map_bytes = max_map_bytes
        self._map = bytearray()
        self._lines = 0
        self._complete = False

    def take(self, stored: memoryview) -> Iterator[Part]:
        while stored and not self._complete:
            missing = headers.BLOCK - len(self._map) % headers.BLOCK
            part, stored = bytes(stored[:missing]), stored[missing:]
            self._map += part
            self._lines += part.count(b"\n")
            if len(part) == missing:
                self._read_map()
        yield from super().take(stored)

    def end(self) -> Iterator[Part]:
        if not self._complete:
            raise BrokenArchive(self.name, "has no complete sparse map")
        yield from super().end()

    def _read_map(self) -> None:
        if len(self._map) > self._max_map_bytes:
            what = "bytes of its sparse map"
            raise LimitExceeded(self.name, what, self._max_map_bytes, len(self._map))
        first = bytes(self._map[: _MAX_DIGITS + 1].partition(b"\n")[0])
        count = _decimal(first, self.name)
        if self._lines > 2 * count:
            lines = bytes(self._map).split(b"\n")[1 : 1 + 2 * count]
            self._set(_pairs([_decimal(line, self.name) for line in lines]))
            self.map_size = len(self._map)
            self._map.clear()
            self._complete = True


def zeros(count: int) -> Iterator[memoryview]:
    """Yield the bytes of a hole, at most BUFFER_SIZE at a time."""
    for offset in range(0, count, BUFFER_SIZE):
        yield _ZEROS[: count - offset]


def gnu_segments(entries: bytes, member: str) -> list[Segment]:
    """Return the segments in a piece of an old GNU map, up to an empty one; raise BrokenArchive."""
    segments = []
    for position in range(0, len(entries) - GNU_SEGMENT + 1, GNU_SEGMENT):
        entry = entries[position : position + GNU_SEGMENT]
        if not entry[0]:
            break
        start = headers.number(entry[:12], member, "sparse offset")
        segments.append((start, headers.number(entry[12:], member, "sparse length")))
    return segments


def from_pax(
    name: str, stored: int, records: Mapping[str, str], max_map_bytes: int
) -> tuple[str, int, Expander] | None:
    """Return the name, expanded size and expander of a sparse member; None if it is not sparse.

    `name` and `stored` are the name and size from the header. Raise BrokenArchive.
    """
    said = {key: records.get(f"{pax.SPARSE}{key}", "") for key in ("major", "minor", "map")}
    version = f"{said['major']}.{said['minor']}"
    if version == "." and not said["map"]:
        return None
    name = records.get(f"{pax.SPARSE}name") or name
    if version not in (".", "0.0", "0.1", "1.0"):
        raise BrokenArchive(name, f"is sparse in a format that is not known: {version}")
    key = next((k for k in ("size", "realsize") if records.get(f"{pax.SPARSE}{k}")), None)
    size = pax.decimal(records[f"{pax.SPARSE}{key}"], name, key) if key else stored
    if version == "1.0":
        return name, size, MappedExpander(name, size, max_map_bytes)
    parts = said["map"].encode("utf-8", "surrogateescape").split(b",") if said["map"] else ()
    numbers = [_decimal(part, name) for part in parts]
    count = pax.decimal(records.get(f"{pax.SPARSE}numblocks") or "0", name, "numblocks")
    if len(numbers) != 2 * count:
        raise BrokenArchive(
            name, f"has a bad sparse map: expected {2 * count} numbers, found {len(numbers)}"
        )
    return name, size, Expander(name, size, _pairs(numbers))


def _pairs(numbers: Sequence[int]) -> list[Segment]:
    return list(zip(numbers[::2], numbers[1::2], strict=True))


def _decimal(digits: bytes, member: str) -> int:
    if not digits.isdigit() or len(digits) > _MAX_DIGITS:
        raise BrokenArchive(
            member, f"has a bad sparse map: expected a number, found {ascii(digits[:20])[1:]}"
        )
    return int(digits)

"""Sparse members of tar archives, expanded: old GNU headers and PAX formats 0.0, 0.1 and 1.0.

A sparse member stores its segments one behind the other; what is between them are zeros.
"""

from collections.abc import Iterator, Mapping, Sequence

from engine.errors import BrokenArchive, LimitExceeded

_ZEROS = memoryview(bytes(1 << 20))
_MAX_SEGMENTS = 1 << 20
_BLOCK = 512

Segment = tuple[int, int]
"""Where a segment begins and how many bytes it has."""


class Sparse:
    """A sparse member whose stored bytes come in pieces."""

    def __init__(self, name: str, size: int, segments: Sequence[Segment]) -> None:
        """BrokenArchive if the segments overlap, are out of order or leave the member's size."""
        self._name = name
        self._size = size
        self._position = 0
        self._set(segments)

    def take(self, stored: memoryview) -> Iterator[memoryview]:
        """The member's own bytes that follow from the next stored ones."""
        while stored:
            if not self._segments:
                raise BrokenArchive(self._name, "has more data than its sparse map says")
            start, length = self._segments[-1]
            yield from self._zeros_until(start)
            part, stored = stored[:length], stored[length:]
            self._position += len(part)
            self._segments[-1] = (start + len(part), length - len(part))
            if not self._segments[-1][1]:
                self._segments.pop()
            yield part

    def end(self) -> Iterator[memoryview]:
        """The zeros at the end."""
        if any(length for _, length in self._segments):
            raise BrokenArchive(self._name, "has less data than its sparse map says")
        yield from self._zeros_until(self._size)

    def _set(self, segments: Sequence[Segment]) -> None:
        if len(segments) > _MAX_SEGMENTS:
            raise LimitExceeded(self._name, "sparse segments", _MAX_SEGMENTS, len(segments))
        end = 0
        for start, length in segments:
            if start < end or length < 0 or start + length > self._size:
                raise BrokenArchive(self._name, f"has a bad sparse map: segment at {start}")
            end = start + length
        self._segments = [segment for segment in reversed(segments) if segment[1]]

    def _zeros_until(self, offset: int) -> Iterator[memoryview]:
        while self._position < offset:
            zeros = _ZEROS[: offset - self._position]
            self._position += len(zeros)
            yield zeros


class SparseWithMap(Sparse):
    """PAX 1.0: the map stands before the data, as decimal lines, padded to whole blocks."""

    def __init__(self, name: str, size: int) -> None:
        super().__init__(name, size, ())
        self._map = bytearray()
        self._complete = False

    def take(self, stored: memoryview) -> Iterator[memoryview]:
        while stored and not self._complete:
            block = _BLOCK - len(self._map) % _BLOCK
            self._map += stored[:block]
            stored = stored[block:]
            if len(self._map) % _BLOCK == 0:
                self._try_map()
        yield from super().take(stored)

    def end(self) -> Iterator[memoryview]:
        if not self._complete:
            raise BrokenArchive(self._name, "has no complete sparse map")
        yield from super().end()

    def _try_map(self) -> None:
        *lines, _ = bytes(self._map).split(b"\n")
        if not lines or len(lines) < 1 + 2 * self._decimal(lines[0]):
            if len(self._map) > 48 * _MAX_SEGMENTS:
                raise LimitExceeded(self._name, "sparse segments", _MAX_SEGMENTS, len(lines) // 2)
            return
        count = self._decimal(lines[0])
        numbers = [self._decimal(line) for line in lines[1 : 1 + 2 * count]]
        self._set(list(zip(numbers[::2], numbers[1::2], strict=True)))
        self._complete = True

    def _decimal(self, text: bytes) -> int:
        if not text.isdigit() or len(text) > 18:
            raise BrokenArchive(self._name, f"has a bad sparse map: {text[:20]!r}")
        return int(text)


def from_pax(name: str, size: int, records: Mapping[str, str]) -> Sparse | None:
    """The sparse member that PAX records tell of, if they do; `name` and `size` are its own."""
    version = records.get("GNU.sparse.major", ""), records.get("GNU.sparse.minor", "")
    if version == ("1", "0"):
        return SparseWithMap(name, size)
    text = records.get("GNU.sparse.map")
    if text is None and not ("GNU.sparse.numblocks" in records and version == ("", "")):
        return None
    numbers = [part for part in (text or "").split(",") if part]
    if len(numbers) % 2 or not all(n.isascii() and n.isdigit() and len(n) < 19 for n in numbers):
        raise BrokenArchive(name, "has a bad sparse map")
    values = [int(number) for number in numbers]
    return Sparse(name, size, list(zip(values[::2], values[1::2], strict=True)))

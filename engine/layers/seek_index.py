"""An index of the positions at which the decompression of a blob can start.

A point of the index is a decompressor that stopped there or, for formats whose decoder cannot be
copied, the start of a stream (a zstd frame). A `Cursor` decompresses from a point on and adds
further points on its way. The uncompressed bytes of a blob are numbered in chunks of CHUNK bytes.

A point takes about 41 KB, and an index has at most POINTS of them. Points are at least SPACING
bytes apart; the distance doubles whenever there are too many.
"""

from bisect import bisect_right
from collections.abc import Iterator
from threading import Lock
from typing import Final

from engine.compression import decompress
from engine.compression.decompress import Resumable
from engine.content.protocols import ReaderAt
from engine.errors import BrokenArchive

CHUNK: Final = 1 << 20
SPACING: Final = 4 << 20
POINTS: Final = 128
_FED: Final = 128 << 10


def chunk_at(offset: int) -> int:
    """Return the number of the first chunk that starts at `offset` or later."""
    return -(-offset // CHUNK)


class SeekIndex:
    """The points of one blob; safe from any thread."""

    def __init__(self, compression: str) -> None:
        """`compression` is a result of `decompress.sniff` other than "none"."""
        self._lock = Lock()
        self._spacing = SPACING
        self._points = [decompress.resumable(compression)]
        self._offsets = [0]

    def before(self, number: int) -> int:
        """Return the first chunk that starts at or after the last point before chunk `number`."""
        with self._lock:
            return chunk_at(self._offsets[self._last(number)])

    def resume(self, number: int) -> Resumable:
        """Return a decompressor that starts at the last point before chunk `number`."""
        with self._lock:
            return self._points[self._last(number)].fork()

    def offer(self, decompressor: Resumable) -> None:
        """Add a point for the position of the decompressor, unless there is one nearby."""
        offset = decompressor.resumable_from.uncompressed
        with self._lock:
            place = bisect_right(self._offsets, offset)
            around = self._offsets[place - 1 : place + 1]
            if min(abs(offset - other) for other in around) >= self._spacing:
                self._points.insert(place, decompressor.fork())
                self._offsets.insert(place, offset)
                if len(self._points) > POINTS:
                    self._thin()

    def _last(self, number: int) -> int:
        return bisect_right(self._offsets, number * CHUNK) - 1

    def _thin(self) -> None:
        self._spacing *= 2
        kept = [self._points[0]]
        for point in self._points[1:]:
            if point.place.uncompressed - kept[-1].place.uncompressed >= self._spacing:
                kept.append(point)
        self._points = kept
        self._offsets = [point.place.uncompressed for point in kept]


class Cursor:
    """A decompression in progress that returns a blob chunk by chunk; for one thread at a time."""

    def __init__(self, index: SeekIndex, number: int, size: int) -> None:
        """Start at the last point before chunk `number` of a blob of `size` uncompressed bytes."""
        self._index = index
        self._size = size
        self._decompressor = index.resume(number)
        self._coming: Iterator[bytes | memoryview] = iter(())
        self._rest = memoryview(b"")
        start = self._decompressor.place.uncompressed
        self.position = chunk_at(start)
        self._skipped = self.position * CHUNK - start

    @property
    def ended(self) -> bool:
        """Whether the last chunk has been returned."""
        return self.position * CHUNK >= self._size

    def next_chunk(self, source: ReaderAt) -> bytes:
        """Return the chunk at `position` and advance; `source` is the stored blob.

        The call that returns the last chunk also reads the rest of the blob. Raise BrokenArchive
        without a member if the blob is damaged; the cursor cannot be used after that.
        """
        self._take(source, self._skipped)
        self._skipped = 0
        wanted = min(CHUNK, self._size - self.position * CHUNK)
        data = b"".join(self._take(source, wanted))
        if len(data) < wanted:
            raise self._wrong_size(self._decompressor.place.uncompressed)
        self.position += 1
        if self.ended and self._more(source):
            raise self._wrong_size(self._decompressor.place.uncompressed)
        return data

    def _take(self, source: ReaderAt, wanted: int) -> list[memoryview]:
        """Return the next `wanted` bytes in pieces, fewer at the end."""
        taken = []
        while wanted and self._more(source):
            piece = self._rest[:wanted]
            self._rest = self._rest[wanted:]
            wanted -= len(piece)
            taken.append(piece)
        return taken

    def _more(self, source: ReaderAt) -> bool:
        """Ensure that `_rest` is not empty; return False at the end."""
        while not self._rest:
            piece = next(self._coming, None)
            if piece is not None:
                self._rest = memoryview(piece)
                continue
            self._index.offer(self._decompressor)
            data = source.pread(_FED, self._decompressor.place.compressed)
            if not data:
                self._decompressor.finish()
                return False
            self._coming = self._decompressor.feed(data)
        return True

    def _wrong_size(self, found: int) -> BrokenArchive:
        return BrokenArchive("", f"expected {self._size} uncompressed bytes, found {found}")

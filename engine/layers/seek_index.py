"""Where the decompression of a blob can begin, learnt as it is decompressed.

A point of the index is a decompressor that stopped there; of one that cannot be copied, the begin
of a stream (a zstd frame). A `Cursor` decompresses from a point on, and leaves further points on
its way. A blob's uncompressed bytes are cut into chunks of CHUNK bytes, known by their numbers.

A point takes some 41 KB, an index at most POINTS of them: they are at least SPACING bytes apart,
and twice as far whenever there are too many.
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
    """The number of the first chunk that begins at `offset` or behind it."""
    return -(-offset // CHUNK)


class SeekIndex:
    """The points of one blob; safe from any thread."""

    def __init__(self, compression: str) -> None:
        """`compression` as `decompress.sniff` says it, but "none"."""
        self._lock = Lock()
        self._spacing = SPACING
        self._points = [decompress.resumable(compression)]
        self._offsets = [0]

    def before(self, number: int) -> int:
        """The first chunk that can be had from the last point before the chunk of that number."""
        with self._lock:
            return chunk_at(self._offsets[self._last(number)])

    def resume(self, number: int) -> Resumable:
        """A decompressor that begins at that point."""
        with self._lock:
            return self._points[self._last(number)].fork()

    def offer(self, decompressor: Resumable) -> None:
        """Take a point of it, if there is none nearby."""
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
    """A decompression on its way through a blob, chunk by chunk; for one thread at a time."""

    def __init__(self, index: SeekIndex, number: int, size: int) -> None:
        """Begin at the last point before that chunk; `size` is that of the uncompressed blob."""
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
        """Whether there is no further chunk."""
        return self.position * CHUNK >= self._size

    def next_chunk(self, source: ReaderAt) -> bytes:
        """The chunk at `position`, which moves on. `source` is the blob as it is stored.

        With the last one all of the blob has been read. BrokenArchive, without a member; nothing
        more can be had then.
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
        """The next bytes: as many as are wanted, or all that there are."""
        taken = []
        while wanted and self._more(source):
            piece = self._rest[:wanted]
            self._rest = self._rest[wanted:]
            wanted -= len(piece)
            taken.append(piece)
        return taken

    def _more(self, source: ReaderAt) -> bool:
        """Have something in `_rest`; False at the end."""
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

"""A decompression in progress that returns the verified chunks of a layer in order."""

from bisect import bisect_right
from collections.abc import Iterator

from engine.compression import decompress
from engine.compression.checksum import crc32
from engine.compression.decompress import StreamPosition
from engine.compression.entering import BlockDecoder
from engine.compression.inflate import BlockStart
from engine.content.protocols import ReaderAt
from engine.errors import BrokenArchive, DamagedLayer
from engine.layers.points import window_of
from engine.layers.table import CHUNK, LayerTable, Point, StoredLayer

_FED = 128 << 10


def point_before(table: LayerTable, number: int) -> Point:
    """Return the last point before chunk `number`."""
    place = bisect_right(table.points, number * CHUNK, key=_plain)
    return table.points[place - 1]


def first_chunk(point: Point) -> int:
    """Return the first chunk that starts at a point or behind it."""
    return -(-point.plain // CHUNK)


def verify(layer: StoredLayer, number: int, chunk: bytes | memoryview) -> None:
    """Raise DamagedLayer if a chunk is not the one that was learnt."""
    expected, found = layer.table.checksums[number], crc32(chunk)
    if expected != found:
        raise DamagedLayer(
            layer.digest,
            f"expected the checksum {expected:08x} of the {len(chunk)} bytes at {number * CHUNK},"
            f" found {found:08x}",
        )


def check_points(layer: StoredLayer, source: ReaderAt) -> None:
    """Raise DamagedLayer unless decompression from each point returns what was learnt.

    The chunk behind a point suffices: it is longer than the history that later bytes refer to.
    """
    end = len(layer.table.checksums)
    for number in map(first_chunk, layer.table.points):
        if number < end:
            Cursor(layer, number).next_chunks(source)


def size_of(table: LayerTable, number: int) -> int:
    """Return the size of a chunk in bytes."""
    return min(CHUNK, table.size - number * CHUNK)


class Cursor:
    """A decompression that begins at a point; for one thread at a time."""

    def __init__(self, layer: StoredLayer, number: int) -> None:
        """Start at the last point before chunk `number`."""
        self._layer = layer
        point = point_before(layer.table, number)
        self._decompressor = _entered(layer.table.compression, point)
        self._stored = point.stored
        self._coming: Iterator[bytes | memoryview] = iter(())
        self._rest = memoryview(b"")
        self.position = first_chunk(point)
        self._skipped = self.position * CHUNK - point.plain

    @property
    def ended(self) -> bool:
        """Whether the last chunk has been returned."""
        return self.position >= len(self._layer.table.checksums)

    def next_chunks(self, source: ReaderAt, count: int = 1) -> bytes:
        """Return the chunks from `position` on, joined, and advance; `source` is the stored layer.

        Raise DamagedLayer; the cursor cannot be used after that.
        """
        numbers = range(self.position, self.position + count)
        try:
            self._take(source, self._skipped)
            self._skipped = 0
            wanted = sum(size_of(self._layer.table, number) for number in numbers)
            data = b"".join(self._take(source, wanted))
        except BrokenArchive as error:
            raise DamagedLayer(self._layer.digest, error.reason) from error
        view = memoryview(data)
        for place, number in enumerate(numbers):
            verify(self._layer, number, view[place * CHUNK : (place + 1) * CHUNK])
        self.position += count
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
            data = source.pread(_FED, self._stored)
            if not data:
                return False
            self._stored += len(data)
            self._coming = self._decompressor.feed(data)
        return True


def _plain(point: Point) -> int:
    return point.plain


def _entered(compression: str, point: Point) -> decompress.Decompressor:
    """Return a decompressor that starts at a point."""
    start = StreamPosition(point.stored, point.plain)
    current = None
    if point.window is not None:
        block = BlockStart(point.plain, point.stored, point.used, window_of(point))
        current = BlockDecoder(block)
    return decompress.located(
        compression, lambda _: decompress.decoder_of(compression), start, current
    )

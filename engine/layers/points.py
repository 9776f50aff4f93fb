"""Find the points of a compressed layer at which decompression can start, while it is read.

Points are the starts of gzip members and zstd frames, and the starts of blocks within a gzip
stream, at least SPACING uncompressed bytes apart. A block needs the history before it. Of that
only the bytes are kept that the next ones refer to, which are a tenth; the rest is zeros.
"""

import sys
from collections import deque
from collections.abc import Iterable, Iterator
from functools import partial
from typing import Final
from weakref import proxy

import msgspec

from engine.compression import block_finder, decompress
from engine.compression.decoders import Decoder
from engine.compression.decompress import StreamPosition
from engine.compression.entering import BlockDecoder
from engine.compression.inflate import WINDOW, BlockStart, Buffers, Inflater
from engine.compression.streams import SLICE
from engine.layers.table import Point
from engine.limits import BUFFER_SIZE

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

SPACING: Final = 4 << 20
POINTS: Final = 4096
"""The largest number of points; the distance doubles whenever there are more."""
PIECES_AHEAD: Final = 4
"""The pieces of uncompressed bytes that may be made while one is used."""
_BEHIND: Final = 1 << 20
"""The most compressed bytes that are kept for a point: a stream may go on without any output."""
_SHARE: Final = 200
"""Windows take at most this fraction of the compressed bytes before them."""
_LEVEL: Final = 3
_FIRST: Final = 1 << 15
"""The number of the first position of a window; two literals of text are no such number."""
_LOW: Final = bytes(range(256)) * (WINDOW // 256)
_HIGH: Final = bytes(_FIRST + index >> 8 for index in range(WINDOW))
_LOWER: Final = 0 if sys.byteorder == "little" else 1
"""The place of the lower byte in a number of two bytes."""


class Candidate(msgspec.Struct, frozen=True):
    """A point whose window is not reduced yet; `following` is compressed data from it on."""

    plain: int
    stored: int
    used: int = 0
    window: bytes | None = None
    following: bytes = b""


class PointFinder:
    """A decompressor of a layer that finds candidates for points; for one thread at a time."""

    def __init__(self, compression: str) -> None:
        """`compression` is "gzip" or "zstd"."""
        self._compression = compression
        # A cycle would keep the buffers until the next collection of garbage, 4 MiB a layer.
        decoder = partial(PointFinder._decoder, proxy(self))
        self._inner = decompress.located(compression, decoder)
        self._buffers = Buffers(1 + PIECES_AHEAD, BUFFER_SIZE // 2)
        self._state: block_finder.State | None = None
        """Memory that the decoders of gzip members share; it is large for the smallest of them."""
        self._fed = 0
        self._made = 0
        self._last = -SPACING
        self._spacing = SPACING
        self._found = 0
        self._pieces: deque[tuple[int, bytes]] = deque()
        """The latest compressed pieces, each with its offset."""
        self._waiting: deque[Candidate] = deque()
        self._ready: deque[Candidate] = deque()

    def feed(self, data: bytes | memoryview) -> Iterator[bytes | memoryview]:
        """Yield the uncompressed bytes, as `Decompressor.feed` does.

        A piece stays as it is while the next PIECES_AHEAD are made.
        """
        view = memoryview(data)
        for start in range(0, len(view), SLICE):
            piece = bytes(view[start : start + SLICE])
            self._pieces.append((self._fed, piece))
            self._fed += len(piece)
            for plain in self._inner.feed(piece):
                self._made += len(plain)
                yield plain
            self._settle(WINDOW)

    def finish(self) -> None:
        """Raise BrokenArchive if the layer is incomplete."""
        self._inner.finish()
        self._settle(0)

    def take(self) -> list[Candidate]:
        """Return the candidates that were found since the last call, in order.

        Another thread may be decompressing.
        """
        return [self._ready.popleft() for _ in range(len(self._ready))]

    def _decoder(self, position: StreamPosition) -> Decoder:
        if self._is_due(position.uncompressed):
            self._add(Candidate(position.uncompressed, position.compressed))
        if self._compression != "gzip":
            return decompress.decoder_of(self._compression)

        def on_block(start: BlockStart) -> int:
            plain = position.uncompressed + start.plain
            stored = position.compressed + start.stored
            self._add(Candidate(plain, stored, start.used, start.window))
            return start.plain + self._spacing

        first = self._last + self._spacing - position.uncompressed
        if block_finder.is_usable():
            if self._state is None:
                self._state = block_finder.State()
            return block_finder.BlockFinder(self._buffers, on_block, first, self._state)
        return Inflater(self._buffers, on_block=on_block, first_block=first)

    def _is_due(self, plain: int) -> bool:
        return plain - self._last >= self._spacing

    def _add(self, candidate: Candidate) -> None:
        self._last = candidate.plain
        self._waiting.append(candidate)
        self._found += 1
        if self._found > POINTS:
            self._found //= 2
            self._spacing *= 2

    def _settle(self, behind: int) -> None:
        """Pass on the candidates with at least `behind` uncompressed bytes behind them, and those
        that need none; drop those with too many compressed bytes behind them.
        """
        while self._waiting:
            found = self._waiting[0]
            if found.window is None:
                self._ready.append(found)
            elif self._made - found.plain >= behind:
                self._ready.append(msgspec.structs.replace(found, following=self._from(found)))
            elif self._fed - found.stored <= _BEHIND:
                break
            self._waiting.popleft()
        least = self._waiting[0].stored if self._waiting else self._fed
        while self._pieces and self._pieces[0][0] + len(self._pieces[0][1]) <= least:
            self._pieces.popleft()

    def _from(self, found: Candidate) -> bytes:
        """Return the compressed data from a candidate on."""
        return b"".join(piece[max(0, found.stored - offset) :] for offset, piece in self._pieces)


class Points:
    """The points that are made of candidates; for one thread at a time."""

    def __init__(self) -> None:
        self._points: list[Point] = []
        self._windows = 0

    def add(self, candidates: Iterable[Candidate]) -> None:
        for found in candidates:
            window = None if found.window is None else _reduced(found, found.window)
            size = self._windows + len(window or b"")
            if size * _SHARE <= found.stored:
                self._windows = size
                self._points.append(Point(found.plain, found.stored, found.used, window))

    def result(self) -> tuple[Point, ...]:
        """Return the points in order, thinned out if there are too many."""
        points = self._points
        while len(points) > POINTS:
            points = points[::2]
        return tuple(points) or (Point(0, 0),)


def _reduced(found: Candidate, window: bytes) -> bytes:
    """Return the window, compressed, with zeros for what the following data does not refer to.

    The data is decompressed with windows that hold the lower and the upper byte of each position's
    number in the place of the window, so that the output shows which positions are copied. Every
    third one is looked at, and the two on either side of it are taken along: at least three bytes
    are copied at a time. The last byte is kept in any case, since behind it a copy goes on in the
    output.
    """
    size = len(window)
    low, high = (_copied(found, pattern[:size]) for pattern in (_LOW, _HIGH))
    numbers = bytearray(2 * len(low))
    numbers[_LOWER::2], numbers[1 - _LOWER :: 2] = low, high
    copied = {*memoryview(numbers).cast("H"), _FIRST + size - 1}
    needed = _selected(window, copied).lstrip(b"\0")
    return zstd.compress(needed, _LEVEL) if needed else b""


def _copied(found: Candidate, window: bytes) -> bytes:
    """Return every third byte, and the last one, of what a window makes of the following data."""
    start = BlockStart(found.plain, found.stored, found.used, window)
    out = BlockDecoder(start).decompress(found.following, WINDOW)
    return out[::3] + out[-1:]


def window_of(point: Point) -> bytes:
    """Return the history that the decoder needs at a point.

    It is as long as any window, since a decoder refuses distances that are longer than the history
    also where the bytes there are zeros.
    """
    return (zstd.decompress(point.window) if point.window else b"").rjust(WINDOW, b"\0")


def _selected(window: bytes, numbers: Iterable[int]) -> bytes:
    """Return the bytes at the positions with these numbers, and the two on either side of each,
    with zeros for the others.
    """
    mask = bytearray(_FIRST + WINDOW)
    for number in numbers:
        mask[number] = 0xFF
    one = int.from_bytes(mask[_FIRST : _FIRST + len(window)], "little")
    selected = int.from_bytes(window, "little") & (
        one | one << 8 | one << 16 | one >> 8 | one >> 16
    )
    return selected.to_bytes(len(window), "little")

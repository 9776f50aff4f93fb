"""Learn the diff ID and the table of a layer in one pass over its stored bytes.

The bytes are decompressed by the caller's thread. What comes out is hashed and parsed by another
one, up to one piece behind.
"""

from collections.abc import Callable, Sequence
from functools import partial

import msgspec

from engine.compression import decompress
from engine.content.protocols import ReaderAt
from engine.errors import BrokenArchive
from engine.layers.diff_ids import Measure, Uncompressed, compression_of
from engine.layers.points import Candidate, PointFinder, Points
from engine.layers.table import LayerTable
from engine.layers.table_builder import TableBuilder
from engine.limits import BUFFER_SIZE, Limits
from engine.progress import Done, Progress
from engine.threads import run_concurrently


class Learnt(msgspec.Struct, frozen=True):
    """What was learnt of a layer; `uncompressed` is None for one that is stored uncompressed."""

    uncompressed: Uncompressed | None
    table: LayerTable


class LayerLearner:
    """A pass over the stored bytes of a layer; for one thread at a time."""

    def __init__(self, compression: str, limits: Limits) -> None:
        """`compression` is "gzip", "zstd" or "none"."""
        self._compression = compression
        self._finder = None if compression == "none" else PointFinder(compression)
        self._decompressor = self._finder or decompress.new(compression)
        self._measure = Measure()
        self._builder = TableBuilder(limits)
        self._points = Points()
        self._learnt: Callable[[], object] = _nothing

    def feed(self, data: bytes | memoryview, on_plain: Callable[[int], object]) -> None:
        """Take the next stored bytes; call `on_plain` with the size of each uncompressed piece.

        Raise BrokenArchive without a member if the layer is damaged, and what `on_plain` raises.
        """
        try:
            for plain in self._decompressor.feed(data):
                on_plain(len(plain))
                self._wait()
                found = self._finder.take() if self._finder else ()
                self._learnt = run_concurrently(partial(self._learn, found), memoryview(plain))
        finally:
            if self._finder is None:
                self._wait()  # the caller may reuse the bytes

    def finish(self) -> Learnt:
        """Return what was learnt of the whole layer; raise BrokenArchive if it is incomplete."""
        self._wait()
        self._decompressor.finish()
        uncompressed = None
        if self._finder is not None:
            self._points.add(self._finder.take())
            uncompressed = self._measure.result()
        return Learnt(uncompressed, self._builder.result(self._compression, self._points.result()))

    def _learn(self, found: Sequence[Candidate], plain: memoryview) -> None:
        if self._finder is not None:
            self._measure.update(plain)
        self._builder.feed(plain)
        self._points.add(found)

    def _wait(self) -> None:
        learnt, self._learnt = self._learnt, _nothing
        learnt()


def learn(reader: ReaderAt, subject: str, on_progress: Progress) -> Learnt:
    """Return what one pass over a stored layer learns.

    `on_progress` hears of stored bytes. Raise BrokenArchive, which names `subject`, if the layer is
    damaged.
    """
    learner = LayerLearner(compression_of(reader), Limits())
    try:
        for offset in range(0, reader.size, BUFFER_SIZE):
            learner.feed(reader.pread(BUFFER_SIZE, offset), _ignore)
            on_progress(Done(min(offset + BUFFER_SIZE, reader.size), reader.size))
        return learner.finish()
    except BrokenArchive as error:
        raise BrokenArchive(subject, error.reason) from error


def _nothing() -> None:
    """Wait for nothing, since no piece is being learnt."""


def _ignore(_size: int) -> None:
    """Do not count the bytes: the layer is in the store already."""

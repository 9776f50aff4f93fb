"""Learn the diff ID and the table of a layer in one pass over its stored bytes.

The bytes are decompressed by the caller's thread. What comes out is hashed and parsed by another
one, up to one piece behind.
"""

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import TYPE_CHECKING

import msgspec

from engine.content.protocols import ReaderAt
from engine.errors import BrokenArchive
from engine.layers.diff_ids import Measure, Uncompressed, compression_of
from engine.layers.table import LayerTable, Point
from engine.layers.table_builder import TableBuilder
from engine.limits import BUFFER_SIZE, Limits
from engine.progress import Done, Progress
from engine.threads import run_concurrently

if TYPE_CHECKING:
    from engine.layers.points import Candidate


class Learnt(msgspec.Struct, frozen=True):
    """What was learnt of a layer; `uncompressed` is None for one that is stored uncompressed."""

    uncompressed: Uncompressed | None
    table: LayerTable


class LayerLearner:
    """A pass over the stored bytes of a layer; for one thread at a time."""

    def __init__(self, compression: str, limits: Limits) -> None:
        """`compression` is "gzip", "zstd" or "none"."""
        self._compression = compression
        self._builder = TableBuilder(limits)
        self._pass = _StoredPass() if compression == "none" else _CompressedPass(compression)
        self._learnt: Callable[[], object] = _nothing

    def feed(self, data: bytes | memoryview, on_plain: Callable[[int], object]) -> None:
        """Take the next stored bytes; call `on_plain` with the size of each uncompressed piece.

        Raise BrokenArchive without a member if the layer is damaged, and what `on_plain` raises.
        """
        try:
            for plain in self._pass.feed(data):
                on_plain(len(plain))
                self._wait()
                work = partial(self._learn, self._pass.take())
                self._learnt = run_concurrently(work, memoryview(plain))
        finally:
            if self._pass.uses_input:
                self._wait()

    def finish(self) -> Learnt:
        """Return what was learnt of the whole layer; raise BrokenArchive if it is incomplete."""
        self._wait()
        uncompressed, points = self._pass.result()
        return Learnt(uncompressed, self._builder.result(self._compression, points))

    def _learn(self, found: "Sequence[Candidate]", plain: memoryview) -> None:
        self._pass.add(plain, found)
        self._builder.feed(plain)

    def _wait(self) -> None:
        learnt, self._learnt = self._learnt, _nothing
        learnt()


class _StoredPass:
    """The pass over a layer that is stored uncompressed, whose digest somebody else measures."""

    uses_input = True

    def feed(self, data: bytes | memoryview) -> Iterator[bytes | memoryview]:
        yield from (data,) if data else ()

    def take(self) -> "Sequence[Candidate]":
        return ()

    def add(self, plain: memoryview, found: "Sequence[Candidate]") -> None:
        """Do nothing: what is stored needs no points."""

    def result(self) -> tuple[Uncompressed | None, tuple[Point, ...]]:
        return None, (Point(0, 0),)


class _CompressedPass:
    """The pass over a compressed layer, which hashes the uncompressed bytes and finds points."""

    uses_input = False

    def __init__(self, compression: str) -> None:
        from engine.layers.points import PointFinder, Points  # deferred with the decoders

        self._finder = PointFinder(compression)
        self._points = Points()
        self._measure = Measure()
        self.feed = self._finder.feed
        self.take = self._finder.take

    def add(self, plain: memoryview, found: "Sequence[Candidate]") -> None:
        self._measure.update(plain)
        self._points.add(found)

    def result(self) -> tuple[Uncompressed | None, tuple[Point, ...]]:
        self._finder.finish()
        self._points.add(self._finder.take())
        return self._measure.result(), self._points.result()


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

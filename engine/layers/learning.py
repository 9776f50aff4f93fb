"""Learn the diff ID and the table of a layer in one pass over its stored bytes.

The bytes are decompressed in another thread, some pieces ahead of the caller's, which hashes and
parses what comes out; both take about as long. While every core has a layer of its own, one thread
does all, which finds the bytes in its cache and never waits for another one.
"""

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from functools import cache
from typing import Final

import msgspec

from engine.content.protocols import ReaderAt
from engine.errors import BrokenArchive, LimitExceeded
from engine.hashing.updates import Update
from engine.layers.diff_ids import Measure, Uncompressed, compression_of
from engine.layers.table import LayerTable, Point
from engine.layers.table_builder import TableBuilder
from engine.limits import BUFFER_SIZE, Expansion, Limits
from engine.progress import Done, Progress
from engine.threads import WORTH_IT, Ahead, Workers

_LIMITS: Final = Limits()


class Learnt(msgspec.Struct, frozen=True):
    """The result of a pass over a layer; `uncompressed` is None for one stored uncompressed."""

    uncompressed: Uncompressed | None
    table: LayerTable


class LayerLearner:
    """A pass over the stored bytes of a layer; for one thread at a time."""

    def __init__(
        self, compression: str, limits: Limits, are_cores_busy: Callable[[], bool]
    ) -> None:
        """`compression` is "gzip", "zstd" or "none"."""
        self._compression = compression
        self._are_cores_busy = are_cores_busy
        self._builder = TableBuilder(limits)
        self._pass = None if compression == "none" else _CompressedPass(compression)

    def feed(
        self, data: bytes | memoryview, on_plain: Callable[[int], object]
    ) -> Iterator[Update | None]:
        """Take the next stored bytes, and yield what is to be hashed, as `Work.parts` does; call
        `on_plain` with the size of each piece that is decompressed.

        Raise BrokenArchive without a member if the layer is damaged, and what `on_plain` raises.
        """
        if self._pass is None:
            self._builder.feed(memoryview(data))
            yield None
            return
        with ExitStack() as ending:
            pieces: Iterator[bytes | memoryview]
            if self._are_cores_busy() or len(data) < WORTH_IT:
                pieces = self._pass.decompressed(data)
            else:
                pieces = ending.enter_context(closing(self._pass.decompressed_ahead(data)))
            for plain in pieces:
                on_plain(len(plain))
                view = memoryview(plain)
                self._builder.feed(view)
                yield self._pass.add(view)

    def finish(self) -> Learnt:
        """Return what was learnt of the whole layer; raise BrokenArchive if it is incomplete."""
        if self._pass is None:
            return Learnt(None, self._builder.result(self._compression, (Point(0, 0),)))
        uncompressed, points = self._pass.finish()
        return Learnt(uncompressed, self._builder.result(self._compression, points))


class _CompressedPass:
    """The pass over a compressed layer, which measures the uncompressed bytes and finds points."""

    def __init__(self, compression: str) -> None:
        from engine.layers.points import (  # deferred with the decoders
            PIECES_AHEAD,
            PointFinder,
            Points,
        )

        self._most_ahead = PIECES_AHEAD
        self._finder = PointFinder(compression)
        self._points = Points()
        self._measure = Measure()

    def decompressed(self, data: bytes | memoryview) -> Iterator[bytes | memoryview]:
        """Yield the uncompressed pieces of `data`."""
        return self._finder.feed(data)

    def decompressed_ahead(self, data: bytes | memoryview) -> Ahead[bytes | memoryview]:
        """Return them while another thread makes the next ones."""
        return Ahead(self._finder.feed(data), self._most_ahead, _decompressing(os.getpid()))

    def add(self, plain: memoryview) -> Update:
        """Add the next piece and the points that were found; return what is to be hashed."""
        self._points.add(self._finder.take())
        return self._measure.add(plain)

    def finish(self) -> tuple[Uncompressed, tuple[Point, ...]]:
        self._finder.finish()
        self._points.add(self._finder.take())
        return self._measure.result(), self._points.result()


@cache
def _decompressing(_pid: int) -> Workers:
    """Return the threads of a process that decompress ahead: not the shared ones, which may wait
    for a download that is hashed by threads that wait for this.
    """
    return Workers(os.cpu_count() or 1)


def learn(
    reader: ReaderAt, subject: str, on_progress: Progress, limits: Limits = _LIMITS
) -> Learnt:
    """Return what one pass over a stored layer learns.

    `on_progress` hears of stored bytes. Raise BrokenArchive, which names `subject`, if the layer is
    damaged or expands to more bytes than the limits allow.
    """
    learner = LayerLearner(compression_of(reader), limits, _are_free)
    expansion = Expansion(limits.max_expanded_bytes)
    try:
        for offset in range(0, reader.size, BUFFER_SIZE):
            for update in learner.feed(reader.pread(BUFFER_SIZE, offset), expansion.add):
                if update is not None:
                    update.apply()
            on_progress(Done(min(offset + BUFFER_SIZE, reader.size), reader.size))
        return learner.finish()
    except BrokenArchive as error:
        raise BrokenArchive(subject, error.reason) from error
    except LimitExceeded as error:
        reason = f"is too large: {error.what}: limit {error.limit}, found {error.found}"
        raise BrokenArchive(subject, reason) from error


def _are_free() -> bool:
    """Return False: no other layer is learnt at the same time."""
    return False

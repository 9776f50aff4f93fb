"""Learn what is in a layer while it is written, from what has been written already.

The writer does not wait: other threads take the bytes that it has written last, or read them out of
the page cache. As many layers are learnt at once as there are cores; the largest of the others is
next.
"""

import errno
from collections.abc import Callable, Generator, Iterator
from functools import partial
from threading import Condition, Event
from typing import Self

import msgspec

from engine.compression.decompress import SNIFFED
from engine.errors import BrokenArchive
from engine.hashing.threads import hashing_threads
from engine.hashing.updates import Update
from engine.layers.diff_ids import Uncompressed, compression_from
from engine.layers.learning import LayerLearner
from engine.layers.recent_bytes import Pread, RecentBytes
from engine.layers.table_codec import dump
from engine.limits import BUFFER_SIZE, Limits
from engine.spec.digest import Digest


class Outcome(msgspec.Struct, frozen=True):
    """The result of following a layer: its diff ID and size, and the document of its table.

    Both are None of a layer that is damaged, or that was not wanted any more.
    """

    uncompressed: Uncompressed | None = None
    table: bytes | None = None

    def outcome(self) -> Self:
        """Return this: it is known already."""
        return self

    def stop(self) -> None:
        """Do nothing: nothing more is learnt."""


class LayerFollower:
    """Follows the one writer of a layer, and is for its thread.

    A file of another kind is taken as a layer without files.
    """

    def __init__(self, pread: Pread, on_plain: Callable[[int], object]) -> None:
        """Read by `pread`, from any thread; call `on_plain` with the size of each piece that is
        decompressed.
        """
        self._pread = pread
        self._recent = RecentBytes(pread)
        self._on_plain = on_plain
        self._changed = Condition()
        """Its lock protects the rest, of which `_learner` and `_taken` belong to who is busy."""
        self._written = 0
        self._taken = 0
        self._ended: FollowedLayer | None = None
        self._learner: LayerLearner | None = None
        self._is_scheduled = False
        self._is_busy = False
        self._is_stopped = False
        self._is_complete = False
        self._is_awaited = False
        self._error: BaseException | None = None

    def add(self, data: memoryview) -> None:
        """Take note of the next bytes, which are written; raise as `advance` does.

        They are kept in memory while a thread learns the layer, and if it has learnt all before.
        """
        if self._is_busy or self._taken == self._written > 0:
            self._recent.add(data, self._written)
        self.advance(self._written + len(data))

    def advance(self, size: int) -> None:
        """Take note that the first `size` bytes are written.

        Raise what `on_plain` or reading has raised, if that is known already.
        """
        with self._changed:
            self._changed.wait_for(lambda: self._ended is None)
            if self._error is not None and not isinstance(self._error, BrokenArchive):
                raise self._error
            self._written = size
            self._go_on()

    def end(self, digest: Digest, size: int) -> "FollowedLayer":
        """Return the layer that is written so far. More may be written afterwards."""
        self.advance(size)
        with self._changed:
            self._ended = FollowedLayer(self, digest, size)
            self._go_on()
            return self._ended

    def finish(self, digest: Digest, size: int) -> "FollowedLayer":
        """As `end`, but nothing may be written afterwards, so that memory can be released."""
        self.advance(size)
        self._is_complete = True
        return self.end(digest, size)

    def stop(self) -> None:
        """Learn no more; when it returns nothing is read any more."""
        with self._changed:
            self._is_stopped = True
            self._recent.clear()
            self._changed.wait_for(lambda: not self._is_busy)
            self._learner = None

    def hurry(self) -> None:
        """Learn this layer before others: somebody waits for the outcome."""
        with self._changed:
            self._is_awaited = self._ended is not None
        hashing_threads().hurry(self)

    def _go_on(self) -> None:
        """Continue in another thread if there is enough to do. The lock is held."""
        enough = self._written - self._taken >= BUFFER_SIZE or self._ended is not None
        if enough and not self._is_scheduled:
            self._is_scheduled = True
            hashing_threads().begin(self)

    @property
    def _is_over(self) -> bool:
        return self._is_stopped or self._error is not None

    @property
    def is_begun(self) -> bool:
        """Whether some of the layer has been learnt."""
        return self._learner is not None

    @property
    def left(self) -> int:
        """The number of bytes that are written, and are still to be learnt."""
        return 0 if self._is_over else self._written - self._taken

    @property
    def is_urgent(self) -> bool:
        """Whether somebody waits for the outcome, or only the end is left."""
        return self._is_awaited or not self.left

    def parts(self) -> Iterator[Update | None]:
        """Learn what is written, and deliver the outcome; for `HashingThreads`."""
        while (yield from self._step()):
            pass

    def _step(self) -> Generator[Update | None, None, bool]:
        """Learn the next bytes, or deliver the outcome; return whether there is more to do."""
        with self._changed:
            work = self._next()
            self._is_busy = True
        try:
            if work is not None:
                yield from work()
        except BaseException as error:
            self._error = error
        with self._changed:
            self._is_busy = False
            self._is_scheduled = self._next() is not None
            self._changed.notify_all()
            return self._is_scheduled

    def _next(self) -> Callable[[], Iterator[Update | None]] | None:
        """Return what can be done now, None if there is nothing. The lock is held."""
        ready = min(BUFFER_SIZE, self._written - self._taken)
        if self._is_over:
            self._recent.clear()
        elif ready == BUFFER_SIZE or (ready and self._ended is not None):
            return partial(self._learn, ready)
        return None if self._ended is None else partial(self._deliver, self._ended)

    def _learn(self, size: int) -> Iterator[Update | None]:
        data = self._recent.pread(size, self._taken)
        if not data:
            raise OSError(errno.EIO, "the bytes that were written are no longer there")
        self._taken += len(data)
        yield from self._begun().feed(data, self._count)

    def _begun(self) -> LayerLearner:
        if self._learner is None:
            compression = compression_from(bytes(self._pread(SNIFFED, 0)))
            threads = hashing_threads()
            self._learner = LayerLearner(compression, Limits(), lambda: threads.are_all_busy)
        return self._learner

    def _count(self, size: int) -> None:
        if self._is_stopped:
            raise BrokenArchive("", "is not wanted any more")
        self._on_plain(size)

    def _deliver(self, followed: "FollowedLayer") -> Iterator[Update | None]:
        outcome = Outcome()
        try:
            if self._error is None and not self._is_stopped:
                outcome = self._outcome(followed)
        except BrokenArchive:  # a layer that is incomplete so far
            pass
        finally:
            if self._is_complete:
                self._learner = None
            with self._changed:
                followed.deliver(outcome, self._error)
                self._ended = None
                self._is_awaited = False
                self._changed.notify_all()
        return iter(())

    def _outcome(self, followed: "FollowedLayer") -> Outcome:
        learnt = self._begun().finish()
        return Outcome(learnt.uncompressed or followed.stored, dump(learnt.table))


class FollowedLayer:
    """A layer that is written whole, while the rest of it is learnt; safe from any thread."""

    def __init__(self, follower: LayerFollower, digest: Digest, size: int) -> None:
        self.stored = Uncompressed(digest, size)
        """The digest and the size of the bytes that were written."""
        self._follower = follower
        self._delivered = Event()
        self._outcome = Outcome()
        self._error: BaseException | None = None

    def outcome(self) -> Outcome:
        """Wait for what is learnt, and return it; raise as `LayerFollower.advance` does."""
        if not self._delivered.is_set():
            self._follower.hurry()
            self._delivered.wait()
        if self._error is not None and not isinstance(self._error, BrokenArchive):
            raise self._error
        return self._outcome

    def stop(self) -> None:
        """Learn no more, as `LayerFollower.stop` does."""
        self._follower.stop()

    def deliver(self, outcome: Outcome, error: BaseException | None) -> None:
        """Set the outcome, for those who wait for it."""
        self._outcome, self._error = outcome, error
        self._delivered.set()

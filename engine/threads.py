"""Threads that work on large buffers concurrently with the caller.

hashlib, the decompressors and file writes release the GIL, so one core can hash a buffer while
another writes it. A process has as many of these threads as cores and starts them on first use. The
caller must wait for the result before it changes the buffer. The threads are daemons: the exit of
the process does not wait for them, unlike for those of concurrent.futures, where an interrupt
during the start of an executor leaves a thread that nothing ends.
"""

import os
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, suppress
from functools import cache, partial
from itertools import islice
from queue import Empty, SimpleQueue
from threading import Condition, Lock, Thread, get_ident
from typing import Any, Final, Generic, TypeVar, TypeVarTuple

from engine.errors import EngineError

T = TypeVar("T")
Ts = TypeVarTuple("Ts")

WORTH_IT: Final = 128 << 10
"""Size in bytes below which a handover to a thread takes longer than the work."""
_WAITING: Final = 8
"""The most threads that wait for the disk in one call."""


class Discarded(EngineError):
    """Work that has not begun, and does not, since its threads are stopped."""

    def __str__(self) -> str:
        return "the work is discarded: its threads are being stopped"


class Workers:
    """A fixed number of threads that run functions in the order in which they were submitted."""

    def __init__(self, count: int) -> None:
        self._count = count
        self._busy: set[int] = set()
        self._waiting: SimpleQueue[_Begun[Any] | None] = SimpleQueue()
        self._lock = Lock()
        """Held while work is queued, and while the queue ends."""
        self._is_closed = False
        for _ in range(count):
            Thread(target=self._serve, name="engine", daemon=True).start()

    def begin(self, work: Callable[[*Ts], T], *arguments: *Ts) -> Callable[[], T]:
        """Start `work`; return a function that waits for it and returns or raises its outcome,
        which is Discarded after `close`.

        One of these threads does the work at once: the others may all wait for work that they have
        begun.
        """
        if get_ident() not in self._busy:
            return self.enqueue(work, *arguments)
        begun = _Begun(partial(work, *arguments))
        begun.run()
        return begun.outcome.result

    def enqueue(self, work: Callable[[*Ts], T], *arguments: *Ts) -> Callable[[], T]:
        """Start `work` as `begin` does, also if one of these threads asks for it, which must not
        wait for it.
        """
        begun = _Begun(partial(work, *arguments))
        with self._lock:
            if self._is_closed:
                begun.outcome.fail(Discarded())
            else:
                self._waiting.put(begun)
        return begun.outcome.result

    @property
    def are_all_busy(self) -> bool:
        """Whether each of the threads runs a function."""
        return len(self._busy) == self._count

    def close(self) -> None:
        """Stop the threads once their current work is done; discard the work that is queued, whose
        outcome is Discarded.
        """
        with self._lock:
            self._is_closed = True
            with suppress(Empty):
                while True:
                    if begun := self._waiting.get_nowait():
                        begun.outcome.fail(Discarded())
            for _ in range(self._count):
                self._waiting.put(None)

    def _serve(self) -> None:
        own = get_ident()
        while begun := self._waiting.get():
            self._busy.add(own)
            begun.run()
            self._busy.discard(own)
            del begun  # or what it refers to would be kept until there is more work


class Outcome(Generic[T]):
    """The result or the error of work in another thread, which is set once.

    concurrent.futures takes longer to import than most work runs.
    """

    _result: T

    def __init__(self) -> None:
        self._error: BaseException | None = None
        self._ended = Lock()
        self._ended.acquire()

    def succeed(self, result: T) -> None:
        """Set the result."""
        self._result = result
        self._ended.release()

    def fail(self, error: BaseException) -> None:
        """Set the error."""
        self._error = error
        self._ended.release()

    def result(self) -> T:
        """Wait for the outcome; return the result or raise the error."""
        with self._ended:
            if self._error is not None:
                raise self._error
            return self._result


class _Begun(Generic[T]):
    """A function and its outcome."""

    def __init__(self, work: Callable[[], T]) -> None:
        self._work = work
        self.outcome = Outcome[T]()

    def run(self) -> None:
        try:
            result = self._work()
        except BaseException as error:
            self.outcome.fail(error)
        else:
            self.outcome.succeed(result)


def run_concurrently(
    work: Callable[[memoryview], object], data: memoryview
) -> Callable[[], object]:
    """Start `work(data)`; return a function that waits for it and raises what it raised.

    Work on a small buffer is done before the call returns.
    """
    if len(data) < WORTH_IT:
        work(data)
        return _nothing
    return begin(work, data)


def run_all(work: Callable[[T], object], items: Sequence[T]) -> None:
    """Call `work`, which waits for the disk, with each of the items, concurrently; raise an error
    of it once all calls have ended.
    """
    others = Workers(min(len(items) - 1, _WAITING))
    with ExitStack() as ending:
        ending.callback(others.close)
        for item in items[1:]:
            ending.callback(others.begin(work, item))
        for item in items[:1]:
            work(item)


class Ahead(Iterator[T]):
    """The items of an iterator, of which other threads make up to `most` before they are taken.

    Nobody waits while it occupies one of the threads, and only one thread at a time uses the
    iterator. Close it unless it is exhausted: when it is closed, no item is being made.
    """

    def __init__(self, items: Iterator[T], most: int, workers: Workers | None = None) -> None:
        """Make the items in the threads of `workers`, by default in those that the whole process
        shares.
        """
        self._items = items
        self._most = most
        self._begin = begin if workers is None else workers.enqueue
        self._changed = Condition()
        """Its lock protects the rest."""
        self._made: deque[T] = deque()
        self._is_asked = self._is_making = self._is_over = False
        self._error: BaseException | None = None

    def __next__(self) -> T:
        self._make_more()
        with self._changed:
            self._changed.wait_for(lambda: self._made or self._is_over)
            if not self._made:
                error, self._error = self._error, None
                try:
                    raise error or StopIteration
                finally:
                    del error  # or its traceback would keep it, and all that made items
            item = self._made.popleft()
        self._make_more()
        return item

    def close(self) -> None:
        """Make no more items."""
        with self._changed:
            self._is_over = True
            self._changed.wait_for(lambda: not self._is_making)

    @property
    def _has_room(self) -> bool:
        return not self._is_over and len(self._made) < self._most

    def _make_more(self) -> None:
        with self._changed:
            if self._is_asked or not self._has_room:
                return
            self._is_asked = True
        try:
            self._begin(self._make)
        except BaseException:  # an interrupt, maybe after a thread has got the work
            with self._changed:
                self._is_asked = self._is_making
            raise

    def _make(self) -> None:
        with self._changed:
            goes_on = self._is_asked and not self._is_making and self._has_room
            self._is_making |= goes_on
        while goes_on:
            made: list[T] = []
            error: BaseException | None = None
            try:
                made = list(islice(self._items, 1))
            except BaseException as raised:
                error = raised
            with self._changed:
                self._made += made
                self._error = error
                self._is_over |= not made
                goes_on = self._is_asked = self._is_making = self._has_room
                self._changed.notify_all()
            del made, error


def begin(work: Callable[[*Ts], T], *arguments: *Ts) -> Callable[[], T]:
    """Start `work` as `Workers.begin` does, on the threads that the whole process shares."""
    return _workers(os.getpid()).begin(work, *arguments)


def _nothing() -> None:
    """Return at once: the work is done."""


@cache
def _workers(_pid: int) -> Workers:
    """Return the threads of the process; a forked child has none of its parent's."""
    return Workers(os.cpu_count() or 1)

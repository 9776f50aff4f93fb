"""Work on large pieces of data that runs beside the caller, on another core.

hashlib, the decompressors and writing let go of Python's lock, so that one core hashes what the
other one writes. There are as many threads as cores, they are started when they are needed, and
every piece is waited for before its buffer may change. No exit waits for them, as it would for an
executor's: an interrupt while one of those starts leaves a thread that nobody ends.
"""

import os
from collections.abc import Callable
from functools import cache, partial
from queue import Empty, SimpleQueue
from threading import Lock, Thread
from typing import Final, Generic, TypeVar, TypeVarTuple

T = TypeVar("T")
Ts = TypeVarTuple("Ts")

_WORTH_IT: Final = 128 << 10
"""Bytes below which handing over takes longer than the work."""


class Workers:
    """Threads that do one piece of work after the other, in the order in which they began."""

    def __init__(self, count: int) -> None:
        self._count = count
        self._waiting: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
        for _ in range(count):
            Thread(target=self._serve, name="beside", daemon=True).start()

    def begin(self, work: Callable[[*Ts], T], *arguments: *Ts) -> Callable[[], T]:
        """Begin `work`; what is returned waits for its result."""
        begun = _Begun(partial(work, *arguments))
        self._waiting.put(begun.run)
        return begun.result

    def close(self) -> None:
        """End the threads, after what they are at; what waits is never done."""
        try:
            while True:
                self._waiting.get_nowait()
        except Empty:
            for _ in range(self._count):
                self._waiting.put(None)

    def _serve(self) -> None:
        while run := self._waiting.get():
            run()


class _Begun(Generic[T]):
    """Work, and what came of it: concurrent.futures takes longer to import than much work does."""

    _result: T

    def __init__(self, work: Callable[[], T]) -> None:
        self._work = work
        self._error: BaseException | None = None
        self._ended = Lock()
        self._ended.acquire()

    def run(self) -> None:
        try:
            self._result = self._work()
        except BaseException as error:
            self._error = error
        finally:
            self._ended.release()

    def result(self) -> T:
        with self._ended:
            if self._error is not None:
                raise self._error
            return self._result


def beside(work: Callable[[memoryview], object], data: memoryview) -> Callable[[], object]:
    """Begin `work(data)`; what is returned waits for it and raises what it raised."""
    if len(data) < _WORTH_IT:
        work(data)
        return _nothing
    return begin(work, data)


def begin(work: Callable[[*Ts], T], *arguments: *Ts) -> Callable[[], T]:
    """As `Workers.begin`, with those that all of this process share."""
    return _workers(os.getpid()).begin(work, *arguments)


def _nothing() -> None:
    """It is done."""


@cache
def _workers(_pid: int) -> Workers:
    """The threads of this process; a fork has none of its parent's."""
    return Workers(os.cpu_count() or 1)

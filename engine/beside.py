"""Work on large pieces of data that runs beside the caller, on another core.

hashlib, the decompressors and writing let go of Python's lock, so that one core hashes what the
other one writes. There are as many threads as cores, they are started when they are needed, and
every piece is waited for before its buffer may change. No exit waits for them, as it would for an
executor's: an interrupt while one of those starts leaves a thread that nobody ends.
"""

import os
from collections.abc import Callable
from functools import cache
from queue import SimpleQueue
from threading import Thread
from typing import Final, TypeVar, TypeVarTuple

T = TypeVar("T")
Ts = TypeVarTuple("Ts")

_WORTH_IT: Final = 128 << 10
"""Bytes below which handing over takes longer than the work."""


def beside(work: Callable[[memoryview], object], data: memoryview) -> Callable[[], object]:
    """Begin `work(data)`; what is returned waits for it and raises what it raised."""
    if len(data) < _WORTH_IT:
        work(data)
        return _nothing
    return begin(work, data)


def begin(work: Callable[[*Ts], T], *arguments: *Ts) -> Callable[[], T]:
    """Begin `work`; what is returned waits for its result."""
    from concurrent.futures import Future  # what is small never needs it

    future: Future[T] = Future()

    def run() -> None:
        try:
            future.set_result(work(*arguments))
        except BaseException as error:
            future.set_exception(error)

    _waiting(os.getpid()).put(run)
    return future.result


def _nothing() -> None:
    """It is done."""


@cache
def _waiting(_pid: int) -> SimpleQueue[Callable[[], None]]:
    """Where the threads of this process take their work from; a fork has none of its parent's."""
    waiting: SimpleQueue[Callable[[], None]] = SimpleQueue()
    for _ in range(os.cpu_count() or 1):
        Thread(target=_serve, args=(waiting,), name="beside", daemon=True).start()
    return waiting


def _serve(waiting: SimpleQueue[Callable[[], None]]) -> None:
    while True:
        waiting.get()()

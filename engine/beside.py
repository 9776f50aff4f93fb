"""Work on large pieces of data that runs beside the caller, on another core.

hashlib, the decompressors and writing let go of Python's lock, so that one core hashes what the
other one writes. There are as many threads as cores, they are started when they are needed, and
every piece is waited for before its buffer may change.
"""

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
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
    return _pool(os.getpid()).submit(work, *arguments).result


def _nothing() -> None:
    """It is done."""


@cache
def _pool(_pid: int) -> ThreadPoolExecutor:
    """The threads of this process; a fork has none of its parent's."""
    return ThreadPoolExecutor(os.cpu_count(), "beside")

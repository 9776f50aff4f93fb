"""Worker threads for calls that can wait for the disk or for another process.

Reads and writes have separate threads, so that a disk on which writes hang does not block reads. If
a task that awaits a call is cancelled, the call itself continues in its thread.
"""

from collections.abc import Callable
from typing import TypeVar, TypeVarTuple

import trio

T = TypeVar("T")
Ts = TypeVarTuple("Ts")

_THREADS = 64
"""The maximum number of threads for reads, and of those for writes."""
_PERIOD = 0.01
"""Seconds between two checks in `rest`."""


class DiskThreads:
    """The worker threads of one mount."""

    def __init__(self) -> None:
        self._reading = trio.CapacityLimiter(_THREADS)
        self._writing = trio.CapacityLimiter(_THREADS)

    async def read(self, call: Callable[[*Ts], T], *args: *Ts) -> T:
        """Run a call that reads the store, and return its result."""
        return await trio.to_thread.run_sync(
            call, *args, limiter=self._reading, abandon_on_cancel=True
        )

    async def write(self, call: Callable[[*Ts], T], *args: *Ts) -> T:
        """Run a call that changes the store or notifies the kernel, and return its result."""
        return await trio.to_thread.run_sync(
            call, *args, limiter=self._writing, abandon_on_cancel=True
        )

    async def rest(self) -> None:
        """Wait until all calls have returned, including those whose task was cancelled."""
        while self.busy:  # noqa: ASYNC110 (a call that no task awaits sets no event)
            await trio.sleep(_PERIOD)

    @property
    def busy(self) -> int:
        """The number of calls that have not returned."""
        return self._reading.borrowed_tokens + self._writing.borrowed_tokens

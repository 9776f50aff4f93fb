"""The worker threads for what may wait for the disk, or for another process.

A disk that hangs keeps those threads that read it or those that write it, and nobody else. Whoever
awaits them can be cancelled; the call itself goes on.
"""

from collections.abc import Callable
from typing import TypeVar, TypeVarTuple

import trio

T = TypeVar("T")
Ts = TypeVarTuple("Ts")

_THREADS = 64
"""Of each kind, at the most."""
_PERIOD = 0.01


class DiskThreads:
    """The threads of one mount."""

    def __init__(self) -> None:
        self._reading = trio.CapacityLimiter(_THREADS)
        self._writing = trio.CapacityLimiter(_THREADS)

    async def read(self, call: Callable[[*Ts], T], *args: *Ts) -> T:
        """Call something that reads the store."""
        return await trio.to_thread.run_sync(
            call, *args, limiter=self._reading, abandon_on_cancel=True
        )

    async def write(self, call: Callable[[*Ts], T], *args: *Ts) -> T:
        """Call something that changes the store, or tells the kernel what has changed."""
        return await trio.to_thread.run_sync(
            call, *args, limiter=self._writing, abandon_on_cancel=True
        )

    async def rest(self) -> None:
        """Wait until every call has come back, also those that nobody awaits any more."""
        while self.busy:  # noqa: ASYNC110 (the end of what is not awaited sets no event)
            await trio.sleep(_PERIOD)

    @property
    def busy(self) -> int:
        """How many calls have not come back."""
        return self._reading.borrowed_tokens + self._writing.borrowed_tokens

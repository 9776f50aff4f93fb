"""Calls in a worker thread, one after the other."""

from collections.abc import Callable
from typing import TypeVar

import trio

from imgfs.threads import DiskThreads

T = TypeVar("T")


class SerialCalls:
    """Runs calls one at a time, in the order in which they are requested. Use it from the event
    loop.
    """

    def __init__(self, nursery: trio.Nursery, workers: DiskThreads) -> None:
        self.nursery = nursery
        self._workers = workers
        self._lock = trio.Lock()

    async def run(self, call: Callable[[], T]) -> T:
        """Run a call in a worker thread, and return its result. If this is cancelled, the call
        still runs to its end.
        """
        results: list[T] = []
        failure: list[Exception] = []
        ended = trio.Event()

        async def run() -> None:
            async with self._lock:
                try:
                    results.append(await self._workers.write(call))
                except Exception as error:  # raised below, in the task that waits
                    failure.append(error)
            ended.set()

        self.nursery.start_soon(run)
        await ended.wait()
        if failure:
            raise failure[0]
        return results[0]

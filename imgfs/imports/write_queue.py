"""Bytes on their way to a consumer that takes its time, in a worker thread, in order.

The event loop calls this. The thread goes on as long as there is more, so that the consumer need
not wait for the loop.
"""

import contextlib
from collections import deque
from collections.abc import Awaitable, Callable

import trio

_SMALL = 64 << 10
_BATCH = 1 << 20
"""Pieces of less than _SMALL bytes are handed over as one of this size: each takes the consumer
longer than its bytes.
"""


class WriteQueue:
    """What waits for one consumer."""

    def __init__(
        self,
        consume: Callable[[bytes], None],
        in_thread: Callable[[Callable[[], None]], Awaitable[None]],
        nursery: trio.Nursery,
    ) -> None:
        """`consume` must not raise."""
        self._consume = consume
        self._in_thread = in_thread
        self._nursery = nursery
        self._token = trio.lowlevel.current_trio_token()
        self._small: list[bytes] = []
        self._small_size = 0
        self._waiting: deque[bytes] = deque()
        self._come = self._consumed = 0
        self._progress = trio.Event()
        self._runs = False

    def put(self, data: bytes) -> None:
        """Hand over what comes next."""
        self._come += len(data)
        if len(data) < _SMALL:
            self._small.append(data)
            self._small_size += len(data)
            if self._small_size >= _BATCH:
                self._hand_over_small()
        else:
            self._hand_over_small()
            self._hand_over(data)

    async def all_but(self, ahead: int) -> None:
        """Wait until no more than so many of the bytes that have come by now wait; those that come
        meanwhile need not have been consumed.
        """
        wanted = self._come - ahead
        if not ahead:
            self._hand_over_small()
        while self._consumed < wanted:
            await self._progress.wait()

    def _hand_over_small(self) -> None:
        if self._small:
            self._hand_over(b"".join(self._small))
            self._small.clear()
            self._small_size = 0

    def _hand_over(self, data: bytes) -> None:
        self._waiting.append(data)
        if not self._runs:
            self._runs = True
            self._nursery.start_soon(self._run)

    async def _run(self) -> None:
        while self._waiting:
            await self._in_thread(self._consume_waiting)
        self._runs = False

    def _consume_waiting(self) -> None:
        while self._waiting:
            data = self._waiting.popleft()
            self._consume(data)
            self._consumed += len(data)
            with contextlib.suppress(trio.RunFinishedError):
                self._token.run_sync_soon(self._tell)

    def _tell(self) -> None:
        self._progress.set()
        self._progress = trio.Event()

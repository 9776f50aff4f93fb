"""A queue of bytes for a slow consumer that runs in a worker thread.

Call this from the event loop. The thread runs as long as there are bytes, so that the consumer does
not wait for the event loop between two pieces.
"""

import contextlib
from collections import deque
from collections.abc import Awaitable, Callable

import trio

_SMALL = 64 << 10
_BATCH = 1 << 20
"""Pieces of less than _SMALL bytes are joined to one of this size, because the consumer has a cost
per piece.
"""


class WriteQueue:
    """The bytes that wait for one consumer, in order."""

    def __init__(
        self,
        consume: Callable[[bytes], None],
        in_thread: Callable[[Callable[[], None]], Awaitable[None]],
        nursery: trio.Nursery,
    ) -> None:
        """`consume` must not raise; `in_thread` runs a call in a worker thread and waits for it."""
        self._consume = consume
        self._in_thread = in_thread
        self._nursery = nursery
        self._token = trio.lowlevel.current_trio_token()
        self._small: list[bytes] = []
        self._small_size = 0
        self._waiting: deque[bytes] = deque()
        self._received = self._consumed = 0
        self._progress = trio.Event()
        self._runs = False

    def put(self, data: bytes) -> None:
        """Append bytes."""
        self._received += len(data)
        if len(data) < _SMALL:
            self._small.append(data)
            self._small_size += len(data)
            if self._small_size >= _BATCH:
                self._hand_over_small()
        else:
            self._hand_over_small()
            self._hand_over(data)

    async def all_but(self, ahead: int) -> None:
        """Wait until all bytes that were put before this call are consumed but the last `ahead`.
        Bytes that are put meanwhile do not prolong the wait.
        """
        wanted = self._received - ahead
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
                self._token.run_sync_soon(self._report_progress)

    def _report_progress(self) -> None:
        self._progress.set()
        self._progress = trio.Event()

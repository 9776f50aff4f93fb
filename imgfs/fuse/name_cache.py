"""How long the kernel may keep the names of a listing.

Any process may change a name at any time, so the kernel keeps none that it has looked up: it asks
again. For `ls -l` that would be one request for each name that it has just been listed. So the
names of a listing may be kept for a moment, if they are still true and while the store's `NameLock`
is held: whoever changes names waits for that moment to pass.
"""

import time
from collections.abc import Callable

import trio

from engine.stores.protocols import LONGEST, NameLock

KEPT = 0.1
"""Seconds that the kernel may keep a name of a listing."""
_ANSWERED = 0.02
"""Seconds within which an answer has reached the kernel, except in a process that is stopped."""


class NameCache:
    """The names that the kernel may keep. Only the event loop touches it."""

    def __init__(self, lock: NameLock, version: Callable[[], int]) -> None:
        """`version` returns another number once anything in the store has changed."""
        version()  # what it opens is open when the process has no descriptor left
        self._lock = lock
        self._version = version
        self._expires = 0.0
        self._used = trio.Event()

    def keep(self, version: int | None) -> float:
        """Let the kernel keep names that were read when the store had this version.

        Return the time (of `time.monotonic`) until which each may be handed out, to be kept for
        `KEPT` seconds; 0 if none may be kept.
        """
        now = time.monotonic()
        if version is None or not self._lock.hold():
            return 0.0
        self._expires = now + LONGEST
        self._used.set()
        return now + LONGEST - KEPT - _ANSWERED if self._version() == version else 0.0

    def answered(self) -> None:
        """Note that the answer with these names goes out now."""
        self._expires = time.monotonic() + KEPT + _ANSWERED

    async def expire(self) -> None:
        """Release the lock whenever the kernel keeps nothing any more, for ever."""
        while True:
            await self._used.wait()
            while (left := self._expires - time.monotonic()) > 0:  # noqa: ASYNC110 (it may move)
                await trio.sleep(left)
            self._lock.release()
            self._used = trio.Event()

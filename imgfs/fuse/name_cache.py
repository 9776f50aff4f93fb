"""Short-lived caching of listed names in the kernel.

Any process can change a name at any time, so the kernel must not cache names that it looks up. But
then `ls -l` would send a LOOKUP for each name right after it was listed. So listed names may be
cached for a moment, if they are still correct and as long as the store's `NameLock` is held: a
process that changes names waits until that lock is released.
"""

import time
from collections.abc import Callable

import trio

from engine.stores.protocols import LONGEST, NameLock

KEPT = 0.1
"""Seconds for which the kernel may cache a listed name."""
_ANSWERED = 0.02
"""Seconds within which a reply reaches the kernel, unless this process is stopped."""


class NameCache:
    """The listed names that the kernel may cache. Call it from the event loop only."""

    def __init__(self, lock: NameLock, version: Callable[[], int]) -> None:
        """`version` returns a number that differs once anything in the store has changed."""
        version()  # it opens a file, which fails once descriptors run out
        self._lock = lock
        self._version = version
        self._expires = 0.0
        self._used = trio.Event()

    def keep(self, version: int | None) -> float:
        """Hold the lock, so that the kernel may cache names read at this version of the store.

        Return the time of `time.monotonic` until which names may be sent with a timeout of `KEPT`
        seconds; 0 if they must not be cached.
        """
        now = time.monotonic()
        if version is None or not self._lock.hold():
            return 0.0
        self._expires = now + LONGEST
        self._used.set()
        return now + LONGEST - KEPT - _ANSWERED if self._version() == version else 0.0

    def answered(self) -> None:
        """Note that the reply with these names is sent now."""
        self._expires = time.monotonic() + KEPT + _ANSWERED

    async def expire(self) -> None:
        """Release the lock whenever the last cached name has expired, until this is cancelled."""
        while True:
            await self._used.wait()
            while (left := self._expires - time.monotonic()) > 0:  # noqa: ASYNC110 (the time can be extended meanwhile)
                await trio.sleep(left)
            self._lock.release()
            self._used = trio.Event()

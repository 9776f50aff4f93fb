"""Short-lived caching of listed names in the kernel.

Any process can change a name at any time, so the kernel must not cache names that it looks up. But
then `ls -l` would send a LOOKUP for each name right after it was listed. So listed names may be
cached for a moment, if they are still correct and as long as the store's `NameLock` is held: a
process that changes names waits until that lock is released.
"""

import time
from collections.abc import Callable

import trio

from engine.stores.protocols import NameLock
from engine.stores.records import LONGEST

KEPT = 0.1
"""Seconds for which the kernel may cache a listed name, from when the reader has received it."""
_ROUNDED = 0.03
"""Seconds that the kernel may add, because it counts in ticks."""
_MADE = 0.05
"""Seconds within which a reply is made; the rest of `LONGEST` is left for the reader."""
_PERIOD = 0.01


class NameCache:
    """The listed names that the kernel may cache. Call it from the event loop only.

    The kernel counts from the moment when the process that reads the directory runs, and not from
    the reply. That process has run once it asks for more, or closes the directory.
    """

    def __init__(self, lock: NameLock, version: Callable[[], int]) -> None:
        """`version` returns a number that differs once anything in the store has changed."""
        version()  # it opens a file, which fails once descriptors run out
        self._lock = lock
        self._version = version
        self._kept: int | None = None
        self._unread: set[int] = set()
        self._expires = self._given_up = 0.0
        self._used = trio.Event()

    def keep(self, version: int | None) -> float:
        """Hold the lock, so that the kernel may cache names read at this version of the store.

        Return the time of `time.monotonic` until which names may be sent with a timeout of `KEPT`
        seconds; 0 if they must not be cached. They must not while the kernel may still cache older
        ones, because a process that waits for these would wait for the newer ones as well.
        """
        now = time.monotonic()
        if version is None or not self._lock.hold():
            return 0.0
        self._used.set()
        if self._version() != version or self._kept not in (None, version):
            return 0.0
        self._kept = version
        return now + _MADE

    def answered(self, listing: int) -> None:
        """Note that the reply with these names is sent now, to the reader of that listing."""
        self._unread.add(listing)
        self._given_up = time.monotonic() + LONGEST

    def read(self, listing: int) -> None:
        """Note that the reader of that listing has received all replies so far."""
        if listing in self._unread:
            self._unread.remove(listing)
            self._expires = time.monotonic() + KEPT + _ROUNDED

    async def expire(self) -> None:
        """Release the lock whenever the last cached name has expired, until this is cancelled."""
        while True:
            await self._used.wait()
            while time.monotonic() < (  # noqa: ASYNC110 (the time can be extended meanwhile)
                self._given_up if self._unread else self._expires
            ):
                await trio.sleep(_PERIOD)
            self._lock.release()
            self._unread.clear()
            self._kept = None
            self._used = trio.Event()

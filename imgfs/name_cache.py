"""How long the kernel may keep the names of a listing.

Any process may change a name at any time, so the kernel keeps none that it has looked up: it asks
again. For `ls -l` that would be one request for each name that it has just been listed. So the
names of a listing may be kept for a moment, if they are still true and while the store's `NameLock`
is held: whoever changes names waits for that moment to pass.
"""

import time
from collections.abc import Callable

import trio

from engine.name_lock import LONGEST, NameLock

KEPT = 0.1
"""Seconds that the kernel may keep a name of a listing, from when the reader has got it."""
_ROUNDED = 0.03
"""Seconds that the kernel may add, which counts in ticks."""
_MADE = 0.05
"""Seconds within which an answer is made; what is left of `LONGEST` is the reader's."""
_PERIOD = 0.01


class NameCache:
    """The names that the kernel may keep. Only the event loop touches it.

    The kernel counts from when the process that reads the directory gets to run, and not from when
    it was answered. That it has run is known when it asks for more, or closes the directory.
    """

    def __init__(self, lock: NameLock, version: Callable[[], int]) -> None:
        """`version` returns another number once anything in the store has changed."""
        version()  # what it opens is open when the process has no descriptor left
        self._lock = lock
        self._version = version
        self._kept: int | None = None
        self._unread: set[int] = set()
        self._expires = self._given_up = 0.0
        self._used = trio.Event()

    def keep(self, version: int | None) -> float:
        """Let the kernel keep names that were read when the store had this version.

        Return the time (of `time.monotonic`) until which each may be handed out, to be kept for
        `KEPT` seconds; 0 if none may be kept. None may while the kernel may still know older ones,
        so that whoever waits for these does not wait for newer ones too.
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
        """Note that the answer with these names goes out now, to whoever reads that directory."""
        self._unread.add(listing)
        self._given_up = time.monotonic() + LONGEST

    def read(self, listing: int) -> None:
        """Note that what was answered so far has been read."""
        if listing in self._unread:
            self._unread.remove(listing)
            self._expires = time.monotonic() + KEPT + _ROUNDED

    async def expire(self) -> None:
        """Release the lock whenever the kernel keeps nothing any more, for ever."""
        while True:
            await self._used.wait()
            while time.monotonic() < (  # noqa: ASYNC110 (it may move)
                self._given_up if self._unread else self._expires
            ):
                await trio.sleep(_PERIOD)
            self._lock.release()
            self._unread.clear()
            self._kept = None
            self._used = trio.Event()

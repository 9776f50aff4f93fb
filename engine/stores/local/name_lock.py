"""The lock that delays a change of names until no kernel uses the old names.

A mount holds the lock, shared, for as long as its kernel may answer with names that it received
before now. A process that has changed names waits, after the commit and before it reports it, until
the lock is free, or for `LONGEST`: no longer for a suspended mount, nor for one that has answered a
process which does not run.

It is a flock on its own file in the store, which ends with the process that holds it.
"""

import fcntl
import os
import time
from contextlib import suppress
from pathlib import Path
from typing import Final

from engine.stores.local.locks import locked
from engine.stores.protocols import NameLock
from engine.stores.records import LONGEST

_POLL: Final = 0.002


class LocalNameLock(NameLock):
    """The lock of the store in `directory`. `hold` and `release` belong to one thread."""

    def __init__(self, directory: Path) -> None:
        self._path = directory / "names.lock"
        self._held: int | None = None

    def hold(self) -> bool:
        """Take the lock, shared; return False if it is not available at once.

        If it is held already, this counts as taking it.
        """
        if self._held is None:
            with suppress(OSError):
                self._held = locked(self._path, os.O_CREAT, fcntl.LOCK_SH)
        return self._held is not None

    def release(self) -> None:
        held, self._held = self._held, None
        if held is not None:
            os.close(held)

    def wait(self) -> None:
        """Wait until no kernel answers with names that it received before this call."""
        deadline = time.monotonic() + LONGEST
        while time.monotonic() < deadline:
            try:
                os.close(locked(self._path, 0, fcntl.LOCK_EX))
            except FileNotFoundError:
                return
            except OSError:
                time.sleep(_POLL)
            else:
                return

"""Who waits for an answer that takes its time. One event loop calls this.

The kernel lets a killed process go only when its request has been answered. So whoever is killed
while a handler waits is answered: the handler is cancelled where it awaits.
"""

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import trio

_PERIOD = 0.1
"""Seconds between two looks at those who wait."""
_SIGKILL_BIT = 1 << 8


class KilledCallers:
    """The processes that wait."""

    def __init__(self) -> None:
        self._waiting: dict[trio.CancelScope, int] = {}
        self._somebody = trio.Event()

    @contextmanager
    def unless_killed(self, pid: int) -> Iterator[None]:
        """Let what is awaited here be cancelled when `pid` (0: nobody known) is killed; EINTR."""
        with trio.CancelScope() as scope:
            self._waiting[scope] = pid
            self._somebody.set()
            try:
                yield
            finally:
                del self._waiting[scope]
        if scope.cancelled_caught:
            raise InterruptedError(errno.EINTR, "the process was killed")

    async def watch(self) -> None:
        """Look after them, for ever."""
        while True:
            await self._somebody.wait()
            await trio.sleep(_PERIOD)
            for scope, pid in list(self._waiting.items()):
                if is_killed(pid):
                    scope.cancel()
            if not self._waiting:
                self._somebody = trio.Event()


def is_killed(pid: int) -> bool:
    """Whether a process, told by the ID of any of its threads, is being ended by a signal.

    Either SIGKILL is pending, into which the kernel turns what ends a process at once, or it is
    closing its files on its way out.
    """
    try:
        threads = os.listdir(f"/proc/{pid}/task") if pid else []
    except OSError:
        return False
    return any(_is_killed_thread(Path(f"/proc/{pid}/task/{thread}/stat")) for thread in threads)


def _is_killed_thread(stat: Path) -> bool:
    try:
        fields = stat.read_bytes().rpartition(b")")[2].split()
    except OSError:
        return False
    pending, exit_code = int(fields[28]), int(fields[49])  # the 31st and 52nd, counted from the PID
    return bool(pending & _SIGKILL_BIT or exit_code & 0x7F)

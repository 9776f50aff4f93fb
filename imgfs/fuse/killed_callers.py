"""Cancels requests whose calling process is killed. Call it from the event loop only.

The kernel does not end a killed process before its request is answered. So a handler that waits is
cancelled once its caller is killed, and the request is answered with EINTR.
"""

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import trio

_PERIOD = 0.1
"""Seconds between two checks of the waiting processes."""
_SIGKILL_BIT = 1 << 8


class KilledCallers:
    """The processes that wait for an answer."""

    def __init__(self) -> None:
        self._waiting: dict[trio.CancelScope, int] = {}
        self._somebody = trio.Event()

    @contextmanager
    def unless_killed(self, pid: int) -> Iterator[None]:
        """Cancel the block and raise InterruptedError (EINTR) once the process `pid` is killed; 0
        stands for an unknown process.
        """
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
        """Check the waiting processes until this is cancelled."""
        while True:
            await self._somebody.wait()
            await trio.sleep(_PERIOD)
            for scope, pid in list(self._waiting.items()):
                if is_killed(pid):
                    scope.cancel()
            if not self._waiting:
                self._somebody = trio.Event()


def is_killed(pid: int) -> bool:
    """Return whether a signal is ending a process, given the ID of any of its threads.

    Either SIGKILL is pending, as the kernel sets it for every fatal signal, or the process is
    closing its files while it exits.
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

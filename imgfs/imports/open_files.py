"""The open files of this machine's processes, from /proc.

The kernel sends FLUSH whenever a descriptor is closed, and does not say whether others are open.
Call this in a worker thread. It never accesses the files themselves, since that would send requests
to the mount that waits for the answer.
"""

import os
from contextlib import suppress


def is_open(path: str) -> bool:
    """Return whether another process has a file open whose path ends with these names.

    Processes whose descriptors this process may not read are ignored.
    """
    ends = f"/{path}", f"/{path} (deleted)"
    pids = (int(entry) for entry in os.listdir("/proc") if entry.isdecimal())
    # A process that has just redirected its output is likely to be a new one.
    for pid in sorted(pids, reverse=True):
        if pid != os.getpid() and any(target.endswith(ends) for target in _targets(pid)):
            return True
    return False


def _targets(pid: int) -> list[str]:
    targets = []
    with suppress(OSError):  # it has ended, or belongs to another user
        for descriptor in os.listdir(f"/proc/{pid}/fd"):
            with suppress(OSError):
                targets.append(os.readlink(f"/proc/{pid}/fd/{descriptor}"))
    return targets

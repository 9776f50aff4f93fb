"""Which files of this machine's processes are open, as /proc tells it.

The kernel asks a file system to flush whenever a descriptor is closed, and does not say whether
another one is left. To be called in a worker thread; nothing here looks at a file itself, which
would ask the mount that is waiting.
"""

import os
from contextlib import suppress


def is_open(path: str) -> bool:
    """Return whether another process has a file open whose path ends with these names.

    Processes that may not be looked at are taken to have none.
    """
    ends = f"/{path}", f"/{path} (deleted)"
    pids = (int(entry) for entry in os.listdir("/proc") if entry.isdecimal())
    # Who has just redirected its output is young.
    for pid in sorted(pids, reverse=True):
        if pid != os.getpid() and any(target.endswith(ends) for target in _targets(pid)):
            return True
    return False


def _targets(pid: int) -> list[str]:
    targets = []
    with suppress(OSError):  # it has ended, or belongs to somebody else
        for descriptor in os.listdir(f"/proc/{pid}/fd"):
            with suppress(OSError):
                targets.append(os.readlink(f"/proc/{pid}/fd/{descriptor}"))
    return targets

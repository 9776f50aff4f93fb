"""The open files of this machine's processes, from /proc.

The kernel sends FLUSH whenever a descriptor is closed, and does not say whether others are open.
Call this in a worker thread. It never accesses the files themselves, since that would send requests
to the mount that waits for the answer.
"""

import os
from contextlib import suppress


def is_open(path: str) -> bool:
    """Return whether another process can write a file whose path ends with these names.

    Processes whose descriptors this process may not read are ignored.
    """
    ends = f"/{path}", f"/{path} (deleted)"
    pids = (int(entry) for entry in os.listdir("/proc") if entry.isdecimal())
    # A process that has just redirected its output is likely to be a new one.
    return any(_writes(pid, ends) for pid in sorted(pids, reverse=True) if pid != os.getpid())


def _writes(pid: int, ends: tuple[str, ...]) -> bool:
    with suppress(OSError):  # it has ended, or belongs to another user
        for descriptor in os.listdir(f"/proc/{pid}/fd"):
            with suppress(OSError):
                target = os.readlink(f"/proc/{pid}/fd/{descriptor}")
                if target.endswith(ends) and _is_for_writing(pid, descriptor):
                    return True
    return False


def _is_for_writing(pid: int, descriptor: str) -> bool:
    with open(f"/proc/{pid}/fdinfo/{descriptor}", encoding="ascii") as file:
        flags = next(line for line in file if line.startswith("flags:"))
    return int(flags.split()[1], 8) & os.O_ACCMODE != os.O_RDONLY

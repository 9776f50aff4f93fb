"""The open files of this machine's processes, from /proc.

The kernel sends FLUSH whenever a descriptor is closed, and does not say whether others are open.
Call this in a worker thread. It never accesses the files themselves, since that would send requests
to the mount that waits for the answer.
"""

import os
from contextlib import suppress
from pathlib import Path

from imgfs import mounts


def is_open(path: str, device: str | None) -> bool:
    """Return whether another process can write a file whose path ends with these names, in a mount
    of this device (MAJOR:MINOR), or in any if it is None.

    Processes whose descriptors this process may not read are ignored.
    """
    ends = f"/{path}", f"/{path} (deleted)"
    pids = (int(entry) for entry in os.listdir("/proc") if entry.isdecimal())
    # A process that has just redirected its output is likely to be a new one.
    others = (pid for pid in sorted(pids, reverse=True) if pid != os.getpid())
    return any(_writes(pid, ends, device) for pid in others)


def _writes(pid: int, ends: tuple[str, ...], device: str | None) -> bool:
    with suppress(OSError):  # it has ended, or belongs to another user
        for descriptor in os.listdir(f"/proc/{pid}/fd"):
            with suppress(OSError):
                target = os.readlink(f"/proc/{pid}/fd/{descriptor}")
                if target.endswith(ends) and _is_for_writing(pid, descriptor, device):
                    return True
    return False


def _is_for_writing(pid: int, descriptor: str, device: str | None) -> bool:
    lines = Path(f"/proc/{pid}/fdinfo/{descriptor}").read_text(encoding="ascii").splitlines()
    fields = dict(line.split(":", 1) for line in lines if ":" in line)
    if int(fields["flags"], 8) & os.O_ACCMODE == os.O_RDONLY:
        return False
    return device is None or _device_of(pid, int(fields["mnt_id"])) in (None, device)


def _device_of(pid: int, mount: int) -> str | None:
    """Return the device of a mount that a process sees, None if it has been unmounted lazily."""
    found = mounts.parse(Path(f"/proc/{pid}/mountinfo").read_bytes())
    return next((each.device for each in found if each.id == mount), None)

"""The names of our leases and ingests in containerd, which tell whose they are.

A name holds the process that has made it, so that the next one can drop what a killed process has
left, long before it expires.
"""

from __future__ import annotations

import os
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Final

PREFIX: Final = "imgfs-"
_BOOT: Final = 8
"""Digits of the ID of a start of the machine."""


def new_id() -> str:
    """Return a name that no other lease or ingest has."""
    pid = os.getpid()
    return f"{PREFIX}{_machine()}-{pid}-{_started(pid)}-{os.urandom(8).hex()}"


def is_abandoned(name: str) -> bool:
    """Return whether a name is ours, and of a process that has ended on this machine."""
    if not name.startswith(PREFIX):
        return False
    boot, _, rest = name.removeprefix(PREFIX).partition("-")
    space, _, rest = rest.partition("-")
    own_boot, _, own_space = _machine().partition("-")
    if boot != own_boot:
        return True
    pid, _, rest = rest.partition("-")
    if space != own_space or not pid.isdecimal():
        return False  # processes of another container cannot be seen
    return _started(int(pid)) != rest.partition("-")[0]


@cache
def _machine() -> str:
    """Return the start of the machine, and the space of process IDs."""
    boot = Path("/proc/sys/kernel/random/boot_id").read_text("ascii")
    return f"{boot[:_BOOT]}-{os.stat('/proc/self/ns/pid').st_ino}"


def _started(pid: int) -> str:
    """Return when a process has started, "" if there is none."""
    with suppress(OSError):
        fields = Path(f"/proc/{pid}/stat").read_text("ascii", "replace").rpartition(")")[2].split()
        return fields[19]
    return ""

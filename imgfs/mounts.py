"""The mounts that mountinfo (proc_pid_mountinfo(5)) lists, and which of them are imgfs mounts."""

import os
import re
from pathlib import Path

import msgspec

_MOUNTINFO = Path("/proc/self/mountinfo")


class MountInfo(msgspec.Struct, frozen=True):
    """A line of mountinfo: the mount `id` at `path` shows the directory `root` of the file system
    on `device` (MAJOR:MINOR), whose superblock has `options`.
    """

    id: int
    device: str
    root: str
    path: Path
    type: str
    options: str

    @property
    def is_ours(self) -> bool:
        return self.type == "fuse.imgfs"


def mountpoints() -> list[Path]:
    """Return the mount points of all imgfs mounts, even if their processes have ended."""
    return [mount.path for mount in mounts() if mount.is_ours]


def mounts() -> list[MountInfo]:
    """Return the mounts in the mount namespace of this process."""
    return parse(_MOUNTINFO.read_bytes())


def mounts_at(path: Path) -> list[MountInfo]:
    """Return the mounts at a path without symlinks; the last one is visible."""
    return [mount for mount in mounts() if mount.path == path]


def device_at(path: Path) -> str | None:
    """Return the device of the visible mount at a path without symlinks, None if there is none.

    It comes from mountinfo: stat(2) would wait for the file system to answer.
    """
    return next((mount.device for mount in reversed(mounts_at(path))), None)


def parse(mountinfo: bytes) -> list[MountInfo]:
    """Parse the content of a file such as /proc/self/mountinfo."""
    found = []
    for line in filter(None, mountinfo.split(b"\n")):
        before, _, after = line.partition(b" - ")
        number, _, device, root, path, *_ = map(_text, before.split(b" "))
        kind, _, options = map(_text, after.split(b" ", 2))
        found.append(MountInfo(int(number), device, root, Path(path), kind, options))
    return found


def _text(field: bytes) -> str:
    return os.fsdecode(re.sub(rb"\\([0-7]{3})", _octal, field))


def _octal(escape: re.Match[bytes]) -> bytes:
    return bytes([int(escape[1], 8)])

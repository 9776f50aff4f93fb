"""Find the processes and other mounts that use a mount, as far as /proc shows them to this user.

No request is sent to the file system itself, since its process may not answer.
"""

import os
import re
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import msgspec

from imgfs.mounts import MountInfo, parse

_PROC = Path("/proc")
_PLACES = ("cwd", "root", "exe")
_MOUNT_ID = re.compile(rb"^mnt_id:\s*([0-9]+)$", re.MULTILINE)


class Process(msgspec.Struct, frozen=True):
    """A process and the name of its command."""

    pid: int
    command: str

    def __str__(self) -> str:
        return f"process {self.pid} ({self.command})"


class Holder(msgspec.Struct, frozen=True):
    """A process that uses `path`."""

    process: Process
    path: str

    def __str__(self) -> str:
        return f"{self.process} at {self.path}"


class OtherMount(msgspec.Struct, frozen=True):
    """A mount that keeps a file system in use: the same file system mounted again, or an overlay.

    `process` is a process in its mount namespace, None if that is the namespace of this process.
    """

    mount: MountInfo
    process: Process | None

    def __str__(self) -> str:
        kind = "an overlay" if self.mount.type == "overlay" else "a mount"
        unmount = f"umount {self.mount.path}"
        if self.process is None:
            return f"{kind} at {self.mount.path} ({unmount})"
        return (
            f"{kind} at {self.mount.path} in the mount namespace of {self.process}"
            f" (nsenter -t {self.process.pid} -m {unmount})"
        )


def processes(mount: MountInfo) -> list[Holder]:
    """Return the processes that keep a mount busy, each with one path that it uses."""
    found = []
    for pid in _pids():
        with suppress(OSError):
            if path := next(_used(pid, mount), None):
                found.append(Holder(Process(pid, _command(pid)), path))
    return found


def other_mounts(mount: MountInfo) -> list[OtherMount]:
    """Return the other mounts of a mount's file system, in any mount namespace.

    The kernel gives the device of a file system that has gone to a new one of any type.
    """
    return _mounts_that(lambda one: (one.device, one.type) == (mount.device, mount.type))


def overlays(mount: MountInfo) -> list[OtherMount]:
    """Return the overlays with a directory below the path of a mount."""
    return _mounts_that(lambda one: one.type == "overlay" and _lies_on(one, mount))


def _mounts_that(keep: Callable[[MountInfo], bool]) -> list[OtherMount]:
    own = (_PROC / "self/mountinfo").read_bytes()
    found = [OtherMount(one, None) for one in parse(own) if keep(one)]
    seen = {own}
    for pid in _pids():
        with suppress(OSError):
            mountinfo = (_PROC / f"{pid}/mountinfo").read_bytes()
            if mountinfo not in seen:
                seen.add(mountinfo)
                known = {other.mount.id for other in found}  # its namespace may be a known one
                new = [one for one in parse(mountinfo) if keep(one) and one.id not in known]
                found += [OtherMount(one, Process(pid, _command(pid))) for one in new]
    return found


def _lies_on(overlay: MountInfo, mount: MountInfo) -> bool:
    directories = re.split(r"[,=:]", overlay.options)
    return any(_is_below(directory, mount) for directory in directories)


def _pids() -> Iterator[int]:
    own = os.getpid()
    for name in os.listdir(_PROC):
        if name.isdecimal() and int(name) != own:
            yield int(name)


def _command(pid: int) -> str:
    return (_PROC / f"{pid}/comm").read_text(errors="backslashreplace").rstrip("\n")


def _used(pid: int, mount: MountInfo) -> Iterator[str]:
    """Yield the paths that a process uses below a mount of this mount namespace."""
    process = _PROC / str(pid)
    if os.readlink(process / "ns/mnt") == os.readlink(_PROC / "self/ns/mnt"):
        for place in _PLACES:
            with suppress(OSError):  # a kernel thread has none of these
                if _is_below(path := os.readlink(process / place), mount):
                    yield path
        yield from _mapped(process, mount)
    for name in os.listdir(process / "fd"):
        with suppress(OSError):  # closed meanwhile
            path = os.readlink(process / "fd" / name).removesuffix(" (deleted)")
            if _is_below(path, mount):
                number = _MOUNT_ID.search((process / "fdinfo" / name).read_bytes())
                if number and int(number[1]) == mount.id:
                    yield path


def _mapped(process: Path, mount: MountInfo) -> Iterator[str]:
    for line in os.fsdecode((process / "maps").read_bytes()).split("\n"):
        path = line.split(maxsplit=5)[5:]
        if path and _is_below(path[0], mount):
            yield path[0]


def _is_below(path: str, mount: MountInfo) -> bool:
    return path == str(mount.path) or path.startswith(f"{mount.path}/")

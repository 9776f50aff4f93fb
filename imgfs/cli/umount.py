"""`imgfs umount`, and functions for `imgfs mount` that examine an existing mount."""

import errno
import json
import os
import subprocess
import sys
import time
from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path

from engine.spec import go_json
from imgfs.cli.support.command import Command, Parser
from imgfs.cli.support.common import Failed
from imgfs.cli.support.files import followed
from imgfs.cli.support.holders import other_mounts, overlays, processes
from imgfs.mounts import MountInfo, mounts, mounts_at

_PATIENCE = 30.0
_SILENCE = 2.0
"""Seconds to wait before it is reported."""
_MOST_NAMED = 4
_MTAB = Path("/etc/mtab")
_CONNECTIONS = Path("/sys/fs/fuse/connections")


def _options(parser: Parser) -> None:
    parser.add_argument(
        "-l",
        "--lazy",
        action="store_true",
        help="Detach now; end when no process uses the mount any more.",
    )


def _umount(args: Namespace) -> None:
    """Unmount, and wait for the mount's process to end.

    imgfs umount /mnt/images
    """
    mountpoint = Path(args.words[0]).absolute()
    real = _real(mountpoint)
    mount = _ours(mountpoint, real)
    if args.lazy:
        unmount(mountpoint, lazily=True)  # its process may never answer
        return
    pid = None if is_stale(mountpoint) else daemon(real)
    connection = _connection(mount)
    unmount(mountpoint, lazily=False)
    if pid is not None:
        _wait_for_end(mountpoint, pid, mount, connection)


UMOUNT = Command(_umount, _options, words="MOUNTPOINT", least=1, most=1)


def is_ours(mountpoint: Path) -> bool:
    """Return whether a store is what is seen there, even if its process has ended."""
    return any(mount.is_ours for mount in mounts_at(_real(mountpoint))[-1:])


def _ours(mountpoint: Path, real: Path) -> MountInfo:
    """Return the mount of a store that is seen there; raise Failed if something else is."""
    found = mounts_at(real)
    if found and found[-1].is_ours:
        return found[-1]
    if any(mount.is_ours for mount in found):
        raise Failed(
            f"{mountpoint}: another mount ({found[-1].type}) covers the imgfs mount;"
            f" umount {mountpoint} ends it"
        )
    raise Failed(f"{mountpoint}: is not an imgfs mount")


def is_stale(mountpoint: Path) -> bool:
    """Return whether it is a mount whose process has ended; no cache answers statvfs(2)."""
    try:
        os.statvfs(mountpoint)
    except OSError as error:
        return error.errno == errno.ENOTCONN
    return False


def daemon(mountpoint: Path) -> int | None:
    """Return the ID of the process that serves an imgfs mount, None if there is none; the path is
    one without symlinks.
    """
    try:
        status = json.loads((mountpoint / ".imgfs" / "status.json").read_bytes())
    except (FileNotFoundError, NotADirectoryError, PermissionError, ValueError):
        return None
    return int(status["pid"]) if status.get("mountpoint") == _as_json(mountpoint) else None


def unmount(mountpoint: Path, lazily: bool) -> None:
    """Unmount; raise Failed with the reason, such as the processes that use the mount."""
    umount = ["umount", *(["-l"] if lazily else [])]
    fusermount = ["fusermount3", "-u", *(["-z"] if lazily else [])]
    # fusermount3 reads /etc/mtab, which may be missing or incomplete; umount asks the kernel, and
    # since util-linux 2.35 lets users unmount their own FUSE mounts.
    commands = [umount] if os.geteuid() == 0 else [fusermount, umount]
    reasons = []
    for command in commands:
        reason = _run([*command, str(mountpoint)])
        if reason is None:
            return
        if "busy" in reason.lower():
            raise Failed(f"{mountpoint}: is busy: {_busy(mountpoint)}")
        reasons.append(reason)
    if not _MTAB.exists():
        raise Failed(f"{reasons[-1]} (as /etc/mtab is missing: ln -s /proc/self/mounts /etc/mtab)")
    raise Failed(reasons[0])


def _run(command: Sequence[str]) -> str | None:
    """Run a command; return why it failed, None if it succeeded."""
    environment = os.environ | {"LC_ALL": "C"}
    try:
        done = subprocess.run(
            command, capture_output=True, errors="surrogateescape", check=False, env=environment
        )
    except FileNotFoundError:
        return f"{command[0]} is missing"
    if not done.returncode:
        return None
    reason = done.stderr.strip().splitlines()
    return reason[-1] if reason else f"{command[-1]}: {command[0]} failed"


def _busy(mountpoint: Path) -> str:
    """Return a text that names the users of a mount and how to end it."""
    path = _real(mountpoint)
    users: list[object] = [user for mount in mounts_at(path)[-1:] for user in processes(mount)]
    users += [f"a mount at {mount.path}" for mount in mounts() if path in mount.path.parents]
    who = _named(users) or "a process that this user may not look at"
    return f"{who}; end that, or detach the mount with imgfs umount -l {mountpoint}"


def _wait_for_end(mountpoint: Path, pid: int, mount: MountInfo, connection: int | None) -> None:
    """Wait for the process of an unmounted mount to end; raise Failed if other mounts keep it."""
    keeps = f"{mountpoint}: is unmounted, but its process {pid} goes on"
    if connection is None:
        others = other_mounts(mount)
    elif _connection(mount) == connection:
        others = other_mounts(mount) or overlays(mount)
        if not others:
            raise Failed(f"{keeps}, because of a mount that cannot be seen from here")
    else:  # its device may be that of a new mount
        others = []
    if others:
        raise Failed(f"{keeps}, because of {_named(others)}")
    start = time.monotonic()
    is_reported = False
    while _runs(pid):
        waited = time.monotonic() - start
        if waited > _PATIENCE:
            raise Failed(f"{keeps}: it has not ended after {_PATIENCE:.0f} s")
        if waited > _SILENCE and not is_reported:
            if others := overlays(mount):
                raise Failed(f"{keeps}, because of {_named(others)}")
            is_reported = True
            print(f"imgfs: waiting for process {pid} of the mount to end", file=sys.stderr)
        time.sleep(0.01)


def _connection(mount: MountInfo) -> int | None:
    """Return the inode of a FUSE connection in the kernel's list, None if it is not there.

    A later connection on the same device has another inode.
    """
    try:
        return (_CONNECTIONS / mount.device.partition(":")[2]).stat().st_ino
    except FileNotFoundError:
        return None


def _named(things: Sequence[object]) -> str:
    """Return the names of the first few, and the number of the others."""
    more = len(things) - _MOST_NAMED
    return ", ".join([*map(str, things[:_MOST_NAMED]), *([f"{more} more"] if more > 0 else [])])


def _as_json(path: Path) -> str:
    """Return a path as a JSON document has it, in which nothing but UTF-8 can be."""
    text: str = json.loads(go_json.dumps(str(path)))
    return text


def _real(mountpoint: Path) -> Path:
    """Return the path without symlinks and `..`, without a request to the mount."""
    last = followed(mountpoint)
    return Path(os.path.normpath(Path(os.path.realpath(last.parent)) / last.name))


def _runs(pid: int) -> bool:
    try:
        text = Path(f"/proc/{pid}/stat").read_text(encoding="ascii", errors="replace")
    except (FileNotFoundError, ProcessLookupError):
        return False
    return text.rpartition(")")[2].split()[0] != "Z"

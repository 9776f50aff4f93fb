"""Real mounts for tests, made by the command that a user types."""

import errno
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyfuse3

import engine
import imgfs
from tests.waiting import wait_until

IMGFS = (sys.executable, "-m", "imgfs")


def lacking() -> str | None:
    """Return what this machine lacks for a mount, or None."""
    if not os.access("/dev/fuse", os.R_OK | os.W_OK):
        return "no access to /dev/fuse"
    return None if shutil.which("fusermount3") else "no fusermount3"


def closed_to_others() -> str | None:
    """Return what keeps other users from running imgfs of this clone, or None; root only."""
    needed = (sys.executable, imgfs.__file__, engine.__file__, pyfuse3.__file__)
    command = ("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "head", "-c1")
    read = subprocess.run([*command, *needed], capture_output=True, check=False)
    if read.returncode == 0:
        return None
    return f"other users may not read this clone: {read.stderr.decode().splitlines()[0]}"


@dataclass(frozen=True)
class Mounted:
    """A mounted store: its directory, the mount point, and the ID of the mount's process."""

    store: Path
    path: Path
    pid: int

    def __truediv__(self, name: str) -> Path:
        return self.path / name

    @property
    def drop(self) -> Path:
        return self.path / "import"

    def load(self, archive: bytes, name: str = "x.tar") -> None:
        """Write an archive to `import/`; raise the OSError of write() or close()."""
        write(self.drop / name, archive)

    def report(self, name: str = "x.tar") -> Any:
        return json.loads((self.path / ".imgfs" / "imports" / f"{name}.json").read_bytes())

    def status(self, field: str) -> Any:
        """Return a field of `.imgfs/status.json`."""
        return json.loads((self.path / ".imgfs" / "status.json").read_bytes())[field]

    def names(self, below: str = "") -> list[str]:
        return sorted(os.listdir(self.path / below))


def write(path: Path, data: bytes, block: int = 1 << 20) -> None:
    """Write a new file and close it; raise every error."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
    try:
        for offset in range(0, len(data), block):
            os.write(descriptor, data[offset : offset + block])
    except BaseException:
        with suppress(OSError):
            os.close(descriptor)
        raise
    os.close(descriptor)


def run(*command: str | Path, **more: Any) -> subprocess.CompletedProcess[bytes]:
    """Run a command that must succeed; return its output."""
    done = subprocess.run([str(part) for part in command], capture_output=True, check=False, **more)
    assert done.returncode == 0, f"{command}: {done.returncode}: {done.stderr.decode()}"
    return done


def open_files(pid: int) -> list[str]:
    """Return what the descriptors of a process lead to, while it may open and close others."""
    found = []
    for link in Path(f"/proc/{pid}/fd").iterdir():
        with suppress(FileNotFoundError):
            found.append(os.readlink(link))
    return found


def has_ended(pid: int) -> bool:
    """Return whether a process and all its threads have ended; a zombie has."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()[0]
        threads = os.listdir(f"/proc/{pid}/task")
    except (FileNotFoundError, ProcessLookupError):
        return True
    return state == "Z" and len(threads) <= 1


def _is_mounted(path: Path) -> bool:
    """Return whether something is mounted at a path, even if its process has ended."""
    try:
        os.lstat(path)
    except OSError as error:
        return error.errno == errno.ENOTCONN
    return os.path.ismount(path)


def _unmount(path: Path) -> None:
    if _is_mounted(path):
        subprocess.run(["fusermount3", "-u", "-z", str(path)], check=False)


def _end(path: Path, pids: list[int]) -> None:
    """Unmount a mount, and wait for its process to end, if the ID of that is known."""
    _unmount(path)
    for pid in pids:
        if not has_ended(pid):
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGTERM)
        wait_until(lambda pid=pid: has_ended(pid), "the mount's process ends")  # type: ignore[misc]  # mypy infers no type for a lambda with defaults


@contextmanager
def mounts(root: Path) -> Iterator[Callable[..., Mounted]]:
    """Provide a function that mounts a store below `root`; unmount everything at the end, and wait
    for the processes to end.
    """
    with ExitStack() as ends:

        def start(
            store: str = "store",
            at: str = "mnt",
            options: tuple[str, ...] = (),
            launcher: tuple[str, ...] = (),
        ) -> Mounted:
            path = root / at
            with suppress(FileExistsError):  # exist_ok would stat a mount whose process has ended
                path.mkdir()
            location = store if "://" in store else root / store
            pids: list[int] = []
            ends.callback(_end, path, pids)
            run(*launcher, *IMGFS, "--store", location, "mount", *options, path)
            pids.append(json.loads((path / ".imgfs" / "status.json").read_bytes())["pid"])
            return Mounted(root / store, path, pids[0])

        yield start


@contextmanager
def started(*command: str | Path, **more: Any) -> Iterator["subprocess.Popen[bytes]"]:
    """Run a command, and kill it at the end."""
    with subprocess.Popen([str(part) for part in command], **more) as process:
        try:
            yield process
        finally:
            process.kill()


@contextmanager
def foreground(store: Path, path: Path, **more: Any) -> Iterator["subprocess.Popen[bytes]"]:
    """Run `imgfs mount -f`; kill it at the end, and remove the mount that it has left."""
    try:
        with started(*IMGFS, "--store", store, "mount", "-f", path, **more) as process:
            yield process
    finally:
        _unmount(path)


@contextmanager
def overlay(at: Path, lower: list[Path], *options: str) -> Iterator[Path]:
    """Mount an overlay of directories, highest first, with mount(2).

    Newer versions of mount(8) prefer fsconfig(2), which takes no value of more than 255 bytes.
    """
    at.mkdir(exist_ok=True)
    lowers = ":".join(str(one).replace(":", "\\:") for one in lower)
    words = ("mount", "-t", "overlay", "none", "-o", ",".join((f"lowerdir={lowers}", *options)))
    run(*words, at, env={**os.environ, "LIBMOUNT_FORCE_MOUNT2": "always"})
    try:
        yield at
    finally:
        run("umount", at)

"""Mount a store for a measurement, end the mount in any case, and count its requests."""

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from scripts.lib.bench.running import Daemon, call, command
from scripts.lib.bench.turns import Sample
from tests.mounts import has_ended
from tests.waiting import wait_until

IMGFS = (sys.executable, "-m", "imgfs")


class Mount:
    """A mounted store, which can be mounted again."""

    def __init__(self, store: Path | str, path: Path, options: Sequence[str] = ()) -> None:
        self.store = store
        self.path = path
        self._options = options
        self._status: dict[str, Any] = {}
        path.mkdir(parents=True, exist_ok=True)

    @property
    def command(self) -> list[str | Path]:
        """The command that mounts the store."""
        return [*IMGFS, "--store", self.store, "mount", *self._options, self.path]

    @property
    def daemon(self) -> Daemon:
        return Daemon(int(self._status["pid"]))

    @property
    def passthrough(self) -> str | None:
        """ "on" or "off: REASON"; None if the mount does not report it."""
        told = self._status.get("passthrough")
        return None if told is None else str(told)

    @property
    def has_passthrough(self) -> bool:
        return (self.passthrough or "").startswith("on")

    def mount(self) -> None:
        call(*self.command)
        self.attach()

    def attach(self) -> None:
        """Take over the mount that `command` has made."""
        self._status = json.loads((self.path / ".imgfs" / "status.json").read_bytes())

    def remount(self) -> None:
        """Mount again, so that the kernel has nothing cached of the mount."""
        self.unmount()
        self.mount()

    def unmount(self) -> None:
        """Unmount, if it is mounted, and end the daemon in any case."""
        if os.path.ismount(self.path):
            subprocess.run(["fusermount3", "-u", "-z", self.path], check=False)
        if not self._status:
            return
        pid = self.daemon.pid
        with suppress(AssertionError):
            wait_until(lambda: has_ended(pid), "the mount's process ends", 10)
        if not has_ended(pid):
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self._status = {}


@contextmanager
def mounted(store: Path | str, path: Path, options: Sequence[str]) -> Iterator[Mount]:
    """Mount a store at a directory, which is made if it is missing."""
    mount = Mount(store, path, options)
    try:
        mount.mount()
        yield mount
    finally:
        mount.unmount()


def write_into(mount: Mount, words: Sequence[str | Path]) -> Sample:
    """Run a writer; the bytes written are the daemon's, since the kernel counts those to a mount
    too.
    """
    before = mount.daemon.written()
    sample = command(words, mount.daemon)
    return replace(sample, written=mount.daemon.written() - before)


def requests(mount: Mount, task: Callable[[], object]) -> int | None:
    """Return how many requests of the kernel reach the daemon while `task` runs, counted as its
    successful reads of /dev/fuse; None without strace.
    """
    if not shutil.which("strace"):
        return None
    with tempfile.NamedTemporaryFile() as log:
        words = ["strace", "-f", "-P", "/dev/fuse", "-e", "trace=read,readv,splice", "-o", log.name]
        tracer = subprocess.Popen(
            [*words, "-p", str(mount.daemon.pid)], stderr=subprocess.PIPE, text=True
        )
        try:
            assert tracer.stderr is not None
            if "attached" not in tracer.stderr.readline():
                return None
            task()
        finally:
            tracer.send_signal(signal.SIGINT)
            tracer.communicate()
        lines = Path(log.name).read_text().splitlines()
        return sum(_succeeded(line) for line in lines)


def _succeeded(line: str) -> bool:
    result = line.rpartition(" = ")[2]
    return result[:1].isdigit() and result.split()[0] != "0"

"""One command or piece of work, measured from outside: time, first byte, memory, bytes written.

What a process has written is /proc/PID/io's write_bytes: what it, and what it has waited for, made
dirty in the page cache of a disk. Its memory is the highest resident set of it and of what it has
started, looked at fifty times a second.
"""

import os
import shlex
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from scripts.lib.bench.turns import Sample

_BLOCK = 128 << 10


class Failed(Exception):
    """A command that must succeed has not."""


@dataclass(frozen=True, slots=True)
class Daemon:
    """A process, with all that it has started: what works for a client that is measured."""

    pid: int

    def reset(self) -> None:
        """Let the peak of memory begin anew."""
        for pid in self._tree():
            with suppress(OSError):
                Path(f"/proc/{pid}/clear_refs").write_text("5")

    def memory(self) -> int:
        """Bytes that are resident now."""
        return sum(_status(pid, "VmRSS") for pid in self._tree())

    def peak(self) -> int:
        return sum(_status(pid, "VmHWM") for pid in self._tree())

    def written(self) -> int:
        return sum(_written(pid) for pid in self._tree())

    def _tree(self) -> list[int]:
        pids = [self.pid]
        for pid in pids:  # which grows meanwhile
            pids.extend(children(pid))
        return pids


class _Watch:
    """A look at a process again and again, which does not see one that ends at once."""

    def __init__(self, pid: int) -> None:
        self.peak: int | None = None
        self._process = Daemon(pid)
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._look)
        self._thread.start()

    def stop(self) -> None:
        self._ended.set()
        self._thread.join()

    def _look(self) -> None:
        while not self._ended.wait(0.02):
            self.peak = max(self.peak or 0, self._process.peak()) or None


def children(pid: int) -> list[int]:
    found: list[int] = []
    with suppress(OSError):
        for thread in Path(f"/proc/{pid}/task").iterdir():
            found.extend(int(child) for child in (thread / "children").read_text().split())
    return found


def command(
    words: Sequence[str | Path],
    daemon: Daemon | None = None,
    environment: Mapping[str, str] | None = None,
    source: Path | None = None,
) -> Sample:
    """Run a command that must succeed, its input from `source`, its output read as `| cat` does.

    Memory and bytes written are those of the command and of the daemon that works for it.
    """
    if daemon:
        daemon.reset()
    before = daemon.written() if daemon else 0
    with tempfile.TemporaryFile() as said, open(source or os.devnull, "rb") as given:
        began = time.perf_counter()
        try:
            process = subprocess.Popen(
                [str(word) for word in words],
                stdin=given,
                stdout=subprocess.PIPE,
                stderr=said,
                env={**os.environ, **environment} if environment else None,
            )
        except FileNotFoundError:
            raise Failed(f"{words[0]} is not installed") from None
        watch = _Watch(process.pid)
        try:
            assert process.stdout is not None
            first = _drain(process.stdout.fileno())
            os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
            ended = time.perf_counter()
            written = _written(process.pid)
            process.wait()
        finally:
            if process.returncode is None:
                process.kill()
                process.wait()
            watch.stop()
            if process.stdout:
                process.stdout.close()
        if process.returncode:
            said.seek(0)
            raise Failed(
                f"{shlex.join(map(str, words))}: {said.read().decode(errors='replace').strip()}"
            )
    return Sample(
        ended - began,
        None if first is None else first - began,
        watch.peak and watch.peak + (daemon.peak() if daemon else 0),
        written + (daemon.written() - before if daemon else 0),
    )


def work(task: Callable[[], object], daemon: Daemon | None = None) -> Sample:
    """Something that this process does itself; memory and bytes written are the daemon's."""
    if daemon:
        daemon.reset()
    before = daemon.written() if daemon else 0
    began = time.perf_counter()
    task()
    seconds = time.perf_counter() - began
    if daemon is None:
        return Sample(seconds)
    return Sample(seconds, None, daemon.peak(), daemon.written() - before)


def call(*words: str | Path, environment: Mapping[str, str] | None = None) -> str:
    """What a command that must succeed prints; not measured."""
    done = subprocess.run(
        [str(word) for word in words],
        capture_output=True,
        check=False,
        env={**os.environ, **environment} if environment else None,
    )
    if done.returncode:
        raise Failed(
            f"{shlex.join(map(str, words))}: {done.stderr.decode(errors='replace').strip()}"
        )
    return done.stdout.decode()


def read_all(path: Path, block: int = 1 << 20) -> None:
    """Read a file from its beginning to its end, into one buffer."""
    buffer = memoryview(bytearray(block))
    descriptor = os.open(path, os.O_RDONLY)
    try:
        while os.readv(descriptor, [buffer]):
            pass
    finally:
        os.close(descriptor)


def _drain(pipe: int) -> float | None:
    """Read to the end; when the first byte came."""
    buffer = memoryview(bytearray(_BLOCK))
    if not os.readv(pipe, [buffer]):
        return None
    first = time.perf_counter()
    while os.readv(pipe, [buffer]):
        pass
    return first


def _status(pid: int, field: str) -> int:
    """A field of /proc/PID/status that is in kB, in bytes; 0 for a process that has gone."""
    with suppress(OSError):
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith(f"{field}:"):
                return int(line.split()[1]) << 10
    return 0


def _written(pid: int) -> int:
    with suppress(OSError):
        for line in Path(f"/proc/{pid}/io").read_text().splitlines():
            if line.startswith("write_bytes:"):
                return int(line.split()[1])
    return 0

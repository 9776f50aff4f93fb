"""Measure one command or function from outside: time, first byte, memory, bytes written, and
processor time.

Bytes written are write_bytes of /proc/PID/io: what the process, and the children that it has waited
for, made dirty in the page cache of a disk. Memory is the peak resident set of the process and its
children, sampled fifty times a second.
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
    """A command that must succeed has failed."""


@dataclass(frozen=True, slots=True)
class Daemon:
    """A process that works for a measured client, with all processes that it has started."""

    pid: int

    def reset(self) -> None:
        """Start a new peak of memory."""
        for pid in self._tree():
            with suppress(OSError):
                Path(f"/proc/{pid}/clear_refs").write_text("5")

    def memory(self) -> int:
        """Return the resident bytes."""
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
    """Sample a process repeatedly; one that ends at once is missed."""

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
    """Run a command that must succeed, with input from `source`; read its output as `| cat` does.

    Memory and bytes written are those of the command and of the daemon that works for it. Raise
    Failed.
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
            written, processor = _written(process.pid), _processor(process.pid)
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
        processor,
    )


def work(task: Callable[[], object], daemon: Daemon | None = None) -> Sample:
    """Measure work of this process; memory and bytes written are the daemon's."""
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
    """Return the output of a command that must succeed, without measuring it. Raise Failed."""
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
    """Read a file from beginning to end into one buffer."""
    buffer = memoryview(bytearray(block))
    descriptor = os.open(path, os.O_RDONLY)
    try:
        while os.readv(descriptor, [buffer]):
            pass
    finally:
        os.close(descriptor)


def _drain(pipe: int) -> float | None:
    """Read to the end; return when the first byte came."""
    buffer = memoryview(bytearray(_BLOCK))
    if not os.readv(pipe, [buffer]):
        return None
    first = time.perf_counter()
    while os.readv(pipe, [buffer]):
        pass
    return first


def _status(pid: int, field: str) -> int:
    """Return a field of /proc/PID/status that is in kB, in bytes; 0 if the process has ended."""
    with suppress(OSError):
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith(f"{field}:"):
                return int(line.split()[1]) << 10
    return 0


def _processor(pid: int) -> float | None:
    """Return the processor time of a process, and of the children that it has waited for."""
    with suppress(OSError):
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return sum(map(int, fields[11:15])) / os.sysconf("SC_CLK_TCK")
    return None


def _written(pid: int) -> int:
    with suppress(OSError):
        for line in Path(f"/proc/{pid}/io").read_text().splitlines():
            if line.startswith("write_bytes:"):
                return int(line.split()[1])
    return 0

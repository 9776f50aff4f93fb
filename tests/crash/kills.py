"""Killing a process right before its N-th call that changes anything.

`python -m tests.crash.kills` reads lines of JSON: N and the arguments of a command. Each is done by a
fork of its own, and answered by how that ended, as a `returncode`: -9 if it was killed, and what
the command said if it made less than N calls. Calls are those of Python to the system and to
SQLite; which of them SQLite makes itself, only strace sees (`straces.py`).
"""

import fcntl
import io
import json
import os
import signal
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from types import FrameType
from typing import Any, Final

_CALLS: Final = frozenset(
    {
        *(os.open, os.write, os.fsync, os.ftruncate, os.fchmod, os.chmod, os.close),
        *(os.mkdir, os.rmdir, os.rename, os.replace, os.unlink, fcntl.flock),
    }
)
_METHODS: Final = (sqlite3.Cursor, sqlite3.Connection, io.BufferedWriter)
_NAMES: Final = frozenset({"execute", "executemany", "close", "write", "flush"})
_COMMANDS: Final = ("loading", "saving", "naming", "commit", "housekeeping")
_ENGINE: Final = (
    *("archive.importer", "gc", "saving", "commit.exporter", "commit.platform_images"),
    *("layouts.combined", "layouts.docker_save", "content.diff_ids", "content.uncompressed"),
)


class Killer:
    """A profiler that ends its process at the N-th call, in whatever thread."""

    def __init__(self, at: int) -> None:
        self._left = at

    def __call__(self, _frame: FrameType, event: str, function: Any) -> None:
        if event == "c_call" and _changes(function):
            self._left -= 1
            if self._left == 0:
                os.kill(os.getpid(), signal.SIGKILL)


def _changes(function: Any) -> bool:
    owner = getattr(function, "__self__", None)
    if isinstance(owner, _METHODS):
        return function.__name__ in _NAMES
    return function in _CALLS


class Forks:
    """The process that forks."""

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        self._process = process

    def run(self, at: int, arguments: list[str]) -> int:
        """Do a command up to its call number `at`, counted from 1; how it ended."""
        asked, answers = self._process.stdin, self._process.stdout
        assert asked is not None
        assert answers is not None
        print(json.dumps([at, arguments]), file=asked, flush=True)
        return int(answers.readline())


@contextmanager
def forks() -> Iterator[Forks]:
    command = [sys.executable, "-B", "-m", "tests.crash.kills"]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True) as process:
        yield Forks(process)
        assert process.stdin is not None
        process.stdin.close()
    assert process.returncode == 0


def _serve() -> None:
    cli = import_module("imgfs.cli")
    for name in _COMMANDS:
        import_module(f"imgfs.cli.{name}")
    for name in _ENGINE:
        import_module(f"engine.{name}")
    for line in sys.stdin:
        at, arguments = json.loads(line)
        pid = os.fork()
        if pid == 0:
            null = os.open(os.devnull, os.O_RDWR)
            for descriptor in (0, 1):
                os.dup2(null, descriptor)
            killer = Killer(at)
            threading.setprofile(killer)
            sys.setprofile(killer)
            status = cli.run(arguments)
            sys.setprofile(None)
            os._exit(status)
        print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), flush=True)


if __name__ == "__main__":
    _serve()

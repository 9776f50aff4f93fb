"""Kill a process right before its N-th call that changes anything.

`python -m tests.crash.kills` reads lines of JSON: N and the arguments of a command. It runs each in
a fork, and answers with the `returncode`, -9 if it was killed, and the number of calls. These are
Python's calls to the system and to SQLite; SQLite's own calls are seen only by strace
(`straces.py`).
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
from importlib import import_module
from types import FrameType
from typing import Any, Final, NoReturn

from imgfs.cli import run

_CALLS: Final = frozenset(
    {
        *(os.open, os.write, os.fsync, os.ftruncate, os.fchmod, os.chmod, os.close),
        *(os.mkdir, os.rmdir, os.rename, os.replace, os.unlink, fcntl.flock),
        *(os.copy_file_range, os.pwrite, os.utime),
    }
)
_METHODS: Final = (sqlite3.Cursor, sqlite3.Connection, io.BufferedWriter)
_NAMES: Final = frozenset({"execute", "executemany", "close", "write", "flush"})
_COMMANDS: Final = ("load", "save", "tag", "rm", "commit", "gc")
_ENGINE: Final = (
    *("archive.importer", "archive.save", "archive.save_for_docker", "archive.existing"),
    *("archive.directory_writer", "archive.load_directory"),
    *("commit.commit", "commit.platform_images", "compression.compressors"),
    *("compression.decoders", "layers.diff_ids", "layers.reader", "layouts.combined"),
    *("layouts.docker_save", "spec.go_json", "stores.local.gc", "stores.local.ingests"),
    "stores.local.store",
)


class Killer:
    """A profiler that counts the calls of all threads, and kills its process at the N-th."""

    def __init__(self, at: int) -> None:
        self._at = at
        self.calls = 0

    def __call__(self, _frame: FrameType, event: str, function: Any) -> None:
        if event == "c_call" and _changes(function):
            self.calls += 1
            if self.calls == self._at:
                os.kill(os.getpid(), signal.SIGKILL)


def _changes(function: Any) -> bool:
    owner = getattr(function, "__self__", None)
    if isinstance(owner, _METHODS):
        return function.__name__ in _NAMES
    return function in _CALLS


class Forks:
    """The process that forks; another takes its place after a run that was interrupted."""

    def __init__(self) -> None:
        self._process = _start()

    def run(self, at: int, arguments: list[str]) -> tuple[int, int]:
        """Run a command up to its call number `at`, counted from 1, or all of it for 0; return the
        return code and the number of calls, 0 if it was killed.
        """
        asked, answers = self._process.stdin, self._process.stdout
        assert asked is not None
        assert answers is not None
        try:
            print(json.dumps([at, arguments]), file=asked, flush=True)
            status, calls = json.loads(answers.readline())
        except BaseException:
            self._replace()
            raise
        return status, calls

    def close(self) -> None:
        self._process.communicate()
        assert self._process.returncode == 0

    def _replace(self) -> None:
        os.killpg(self._process.pid, signal.SIGKILL)
        self._process.communicate()
        self._process = _start()


def _start() -> "subprocess.Popen[str]":
    """Start the process in a group of its own, along with its forks."""
    command = [sys.executable, "-B", "-m", "tests.crash.kills"]
    pipe = subprocess.PIPE
    return subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True, process_group=0)


def _serve() -> None:
    for name in _COMMANDS:
        import_module(f"imgfs.cli.{name}")
    for name in _ENGINE:
        import_module(f"engine.{name}")
    for line in sys.stdin:
        at, arguments = json.loads(line)
        reader, writer = os.pipe()
        pid = os.fork()
        if pid == 0:
            _run(at, arguments, writer)
        os.close(writer)
        with open(reader, encoding="ascii") as counted:
            calls = int(counted.read() or "0")
        status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        print(json.dumps([status, calls]), flush=True)


def _run(at: int, arguments: list[str], writer: int) -> NoReturn:
    null = os.open(os.devnull, os.O_RDWR)
    for descriptor in (0, 1):
        os.dup2(null, descriptor)
    killer = Killer(at)
    threading.setprofile(killer)
    sys.setprofile(killer)
    status = run(arguments)
    sys.setprofile(None)
    os.write(writer, b"%d" % killer.calls)
    os._exit(status)


if __name__ == "__main__":
    _serve()

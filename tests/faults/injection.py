"""Faults on demand: the n-th system call of a block fails, or every call from the n-th on."""

import builtins
import errno
import fcntl
import io
import os
import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any

import pytest

CALLS: tuple[tuple[ModuleType, str], ...] = (
    *((os, name) for name in ("open", "write", "pread", "preadv", "pwrite", "read", "lseek")),
    *((os, name) for name in ("fsync", "fstat", "stat", "lstat", "fchmod", "ftruncate")),
    *((os, name) for name in ("mkdir", "rmdir", "rename", "replace", "unlink")),
    *((os, name) for name in ("scandir", "listdir", "posix_fadvise")),
    (io, "open"),
    (builtins, "open"),
    (fcntl, "flock"),
)
"""The functions by which the engine calls the system; pathlib uses `stat` and `lstat`."""
STATEMENT = "an SQL statement"


@dataclass
class Fault:
    """The calls that fail: number `at`, counted from 0, and also the later ones if `is_lasting`.

    `hit` are the calls that have failed.
    """

    at: int
    number: int = errno.EIO
    is_lasting: bool = False
    sqlite_code: int = sqlite3.SQLITE_IOERR_WRITE
    hit: list[str] = field(default_factory=list)
    _count: int = 0
    _lock: Any = field(default_factory=threading.Lock)

    def fails(self, call: str) -> bool:
        """Count a call; return whether it is to fail."""
        with self._lock:
            number, self._count = self._count, self._count + 1
            fails = number == self.at or (self.is_lasting and number > self.at)
            if fails:
                self.hit.append(call)
            return fails

    def wrap(self, call: str, real: Callable[..., Any]) -> Callable[..., Any]:
        """Return a function that makes the call or fails."""

        def made(*args: Any, **options: Any) -> Any:
            if self.fails(call):
                raise OSError(self.number, os.strerror(self.number))
            return real(*args, **options)

        return made

    def wrap_statements(self, real: Callable[..., Any]) -> Callable[..., Any]:
        """Wrap the function in which a cursor translates SQLite's errors, so that statements
        fail.
        """

        def fail(*_: object, **__: object) -> None:
            error = sqlite3.OperationalError("injected")
            error.sqlite_errorcode = self.sqlite_code
            raise error

        def made(cursor: object, call: Callable[..., Any], *args: Any, **options: Any) -> Any:
            fails = call.__name__.startswith("execute") and self.fails(STATEMENT)
            return real(cursor, fail if fails else call, *args, **options)

        return made


@contextmanager
def injected(fault: Fault) -> Iterator[Fault]:
    """Inject a fault into the system calls of a block."""
    with pytest.MonkeyPatch.context() as patch:
        for module, name in CALLS:
            patch.setattr(module, name, fault.wrap(name, getattr(module, name)))
        translating = "engine.stores.local.connection._Cursor._translating"
        from engine.stores.local import connection

        real = vars(vars(connection)["_Cursor"])["_translating"]
        patch.setattr(translating, fault.wrap_statements(real))
        yield fault

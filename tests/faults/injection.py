"""Faults on demand: the nth system call of a block, or every one from there on, fails."""

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
"""Where the engine calls the system. `stat` and `lstat` are what pathlib asks with."""
STATEMENT = "an SQL statement"


@dataclass
class Fault:
    """What fails: the call of that number (0 is the first), and those behind it if it is lasting.

    `hit` are the calls that have failed.
    """

    at: int
    number: int = errno.EIO
    is_lasting: bool = False
    sqlite_code: int = sqlite3.SQLITE_IOERR_WRITE
    hit: list[str] = field(default_factory=list)
    _count: int = 0
    _lock: Any = field(default_factory=threading.Lock)

    def comes(self, call: str) -> bool:
        """Whether this call is to fail."""
        with self._lock:
            number, self._count = self._count, self._count + 1
            comes = number == self.at or (self.is_lasting and number > self.at)
            if comes:
                self.hit.append(call)
            return comes

    def failing(self, call: str, real: Callable[..., Any]) -> Callable[..., Any]:
        """The call, which may fail now."""

        def made(*args: Any, **options: Any) -> Any:
            if self.comes(call):
                raise OSError(self.number, os.strerror(self.number))
            return real(*args, **options)

        return made

    def failing_statement(self, real: Callable[..., Any]) -> Callable[..., Any]:
        """A cursor's translation of errors, which gets one to translate now."""

        def fail(*_: object, **__: object) -> None:
            error = sqlite3.OperationalError("injected")
            error.sqlite_errorcode = self.sqlite_code
            raise error

        def made(cursor: object, call: Callable[..., Any], *args: Any, **options: Any) -> Any:
            comes = call.__name__.startswith("execute") and self.comes(STATEMENT)
            return real(cursor, fail if comes else call, *args, **options)

        return made


@contextmanager
def injected(fault: Fault) -> Iterator[Fault]:
    """Within the block it happens to whoever calls the system."""
    with pytest.MonkeyPatch.context() as patch:
        for module, name in CALLS:
            patch.setattr(module, name, fault.failing(name, getattr(module, name)))
        translating = "engine.stores.local.connection._Cursor._translating"
        from engine.stores.local import connection

        real = vars(vars(connection)["_Cursor"])["_translating"]
        patch.setattr(translating, fault.failing_statement(real))
        yield fault

"""A connection to the SQLite database of a store, whose errors are those of the engine.

SQLite errors about the file (locked, damaged, …) are raised as StoreError, and failures of the disk
(full, over quota, read-only, …) as the corresponding OSError. Constraint violations and errors in
SQL remain sqlite3's.
"""

from __future__ import annotations

import errno
import os
import sqlite3
from collections.abc import Callable
from typing import Any, Final, ParamSpec, Self, TypeVar

from engine.errors import StoreBusy, StoreDamaged, StoreError
from engine.stores.local import forks

_P = ParamSpec("_P")
_T = TypeVar("_T")

BUSY_SECONDS: Final = 30
_PROBED: Final = 64 << 10
LOCKED: Final = (
    f"another process has kept the database locked for {BUSY_SECONDS} s; try again later"
)
_BUSY: Final = frozenset({sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_PROTOCOL})
_DAMAGED: Final = frozenset({sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB})
_SENTENCES: Final = {
    sqlite3.SQLITE_CORRUPT: "the database is damaged: run imgfs fsck --repair",
    sqlite3.SQLITE_NOTADB: (
        "the file is not a database, or its header is damaged: run imgfs fsck --repair"
    ),
    sqlite3.SQLITE_READONLY: "the database is read-only",
    sqlite3.SQLITE_PERM: "access to the database is denied",
    sqlite3.SQLITE_CANTOPEN: "the database cannot be opened",
    sqlite3.SQLITE_IOERR: "reading or writing the database failed",
}
_OF_THE_DISK: Final = frozenset(_SENTENCES) - _DAMAGED


class Connection(sqlite3.Connection):
    """A connection to the file `file` at `path`; `failed` is set after an error of the file or
    disk.

    SQLite also opens a file that it cannot write to; such a connection never writes.
    """

    path: str
    file: forks.File
    is_read_only: bool
    failed = False

    def close(self) -> None:
        forks.closed(self)
        super().close()

    def execute(self, sql: str, parameters: Any = (), /) -> sqlite3.Cursor:
        return self.cursor(_Cursor).execute(sql, parameters)

    def executemany(self, sql: str, parameters: Any, /) -> sqlite3.Cursor:
        return self.cursor(_Cursor).executemany(sql, parameters)


class _Cursor(sqlite3.Cursor):
    """A cursor of a `Connection` that translates errors, also those of fetching rows."""

    connection: Connection

    def execute(self, sql: str, parameters: Any = (), /) -> Self:
        return self._translating(super().execute, sql, parameters)

    def executemany(self, sql: str, parameters: Any, /) -> Self:
        return self._translating(super().executemany, sql, parameters)

    def fetchone(self) -> Any:
        return self._translating(super().fetchone)

    def fetchall(self) -> list[Any]:
        return self._translating(super().fetchall)

    def __next__(self) -> Any:
        return self._translating(super().__next__)

    def _translating(self, call: Callable[_P, _T], *args: _P.args, **kwargs: _P.kwargs) -> _T:
        try:
            return call(*args, **kwargs)
        except sqlite3.Error as error:
            self.connection.failed |= _code(error) in _SENTENCES
            raise translated(error, self.connection.path) from error


def _code(error: sqlite3.Error) -> int:
    return getattr(error, "sqlite_errorcode", sqlite3.SQLITE_OK) & 0xFF


def translated(error: sqlite3.Error, path: str) -> Exception:
    code = _code(error)
    if code == sqlite3.SQLITE_FULL:
        return OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), path)
    if code in _BUSY:
        return StoreBusy(path, LOCKED)
    if code in _OF_THE_DISK and (refused := _refusal(path)):
        return OSError(refused, os.strerror(refused), path)
    if code == sqlite3.SQLITE_CANTOPEN and os.path.isdir(path):
        return StoreError(path, "the database cannot be opened: it is a directory")
    if code in _DAMAGED:
        return StoreDamaged(path, _SENTENCES[code])
    if code in _SENTENCES:
        return StoreError(path, _SENTENCES[code])
    return error


def _refusal(path: str) -> int | None:
    """Return the errno of the disk for an error that SQLite reports only in general terms.

    The file itself must not be opened: closing it would release SQLite's locks on it.
    """
    import tempfile  # needed only after a failure

    try:
        with tempfile.TemporaryFile(dir=os.path.dirname(path), buffering=0) as probe:
            probe.write(bytes(_PROBED))
            os.fsync(probe.fileno())
    except OSError as error:
        return error.errno
    exists = os.access(path, os.F_OK)
    return errno.EACCES if exists and not os.access(path, os.R_OK | os.W_OK) else None

"""A connection to the SQLite database of a store, whose errors are those of the engine.

SQLite errors about the file (locked, damaged, …) are raised as StoreError, and failures of the disk
(full, over quota, read-only, …) as the corresponding OSError. Damage shows itself also by text that
is no UTF-8 or no JSON, and by tables and columns that are not there. Constraint violations and
other errors in SQL remain sqlite3's.
"""

from __future__ import annotations

import errno
import os
import re
import sqlite3
from collections.abc import Callable
from threading import RLock
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
CLOSED: Final = "the database is closed"
_BUSY: Final = frozenset({sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_PROTOCOL})
_DAMAGED: Final = frozenset({sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB})
_DAMAGE: Final = "the database is damaged: run imgfs fsck --repair"
_SENTENCES: Final = {
    sqlite3.SQLITE_CORRUPT: _DAMAGE,
    sqlite3.SQLITE_NOTADB: (
        "the file is not a database, or its header is damaged: run imgfs fsck --repair"
    ),
    sqlite3.SQLITE_READONLY: "the database is read-only",
    sqlite3.SQLITE_PERM: "access to the database is denied",
    sqlite3.SQLITE_CANTOPEN: "the database cannot be opened",
    sqlite3.SQLITE_IOERR: "reading or writing the database failed",
}
_OF_THE_SCHEMA: Final = re.compile(
    "no such (table|column|function|index|trigger|collation sequence)"
    "|has no column named|already exists|duplicate column name|foreign key mismatch"
    "|ON CONFLICT clause does not match|malformed JSON|JSON path error|unsupported file format"
    "|cannot modify|integer overflow"
)
"""The texts of SQLite's errors in SQL if the tables are not those of the schema, or a value in them
has no meaning.
"""
_OF_THE_DISK: Final = frozenset(_SENTENCES) - _DAMAGED
_OF_SPACE: Final = {sqlite3.SQLITE_FULL, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_IOERR}


class Connection(sqlite3.Connection):
    """A connection to the file `file` at `path`; `failed` is set after an error of the file or
    disk, and when the file was replaced.

    SQLite also opens a file that it cannot write to; such a connection never writes.
    """

    path: str
    file: forks.File
    is_read_only: bool
    failed = False

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.using = RLock()
        """Held during each call of SQLite."""
        self.calls = 0
        """The number of calls that go on: the parameters of one may make another."""
        self.is_given_up = False

    def close(self) -> None:
        forks.closed(self)
        super().close()

    def give_up(self) -> None:
        """Close at the end of the call that another thread makes, or now if there is none: the
        sqlite3 module crashes if a connection is closed during a call.
        """
        self.is_given_up = True
        if self.using.acquire(blocking=False):
            try:
                self.close()
            finally:
                self.using.release()

    def execute(self, sql: str, parameters: Any = (), /) -> sqlite3.Cursor:
        return self._new_cursor().execute(sql, parameters)

    def executemany(self, sql: str, parameters: Any, /) -> sqlite3.Cursor:
        return self._new_cursor().executemany(sql, parameters)

    def _new_cursor(self) -> _Cursor:
        try:
            return self.cursor(_Cursor)
        except sqlite3.ProgrammingError as error:
            raise translated(error, self.path) from error


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
        connection = self.connection
        connection.using.acquire()
        connection.calls += 1
        try:
            return call(*args, **kwargs)
        except sqlite3.Error as error:
            if _code(error) in _SENTENCES:
                self.connection.failed = True
            raise translated(error, self.connection.path) from error
        except UnicodeDecodeError as error:
            raise StoreDamaged(self.connection.path, _DAMAGE) from error
        finally:
            connection.calls -= 1
            connection.using.release()
            if connection.is_given_up and not connection.calls:
                connection.close()


def check_types(row: tuple[Any, ...], types: tuple[type, ...]) -> None:
    """Raise TypeError for a row that has values of other types: damage may change them, too."""
    if tuple(map(type, row)) != types:
        raise TypeError("a value is of another type")


def damaged(path: os.PathLike[str], row: str) -> StoreDamaged:
    """Return the error for a row, which `row` describes, whose values have no meaning."""
    return StoreDamaged(str(path), f"{row} is damaged: run imgfs fsck --repair")


def _code(error: sqlite3.Error) -> int:
    return getattr(error, "sqlite_errorcode", sqlite3.SQLITE_OK) & 0xFF


def may_lack_space(error: Exception) -> bool:
    """Return whether a translated error can come of a full disk, also if there is space by now."""
    cause = error.__cause__
    return isinstance(cause, sqlite3.Error) and _code(cause) in _OF_SPACE


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
    if _shows_damage(error, code):
        return StoreDamaged(path, _DAMAGE)
    if isinstance(error, sqlite3.ProgrammingError) and "closed database" in str(error):
        return StoreError(path, CLOSED)
    if code in _SENTENCES:
        return StoreError(path, _SENTENCES[code])
    return error


def _shows_damage(error: sqlite3.Error, code: int) -> bool:
    """Return whether our own SQL fails because of what is in the file."""
    if isinstance(error, sqlite3.DataError):
        return True  # a value that is larger than any that SQLite stores
    if not isinstance(error, sqlite3.OperationalError):
        return False
    if code == sqlite3.SQLITE_ERROR:
        return _OF_THE_SCHEMA.search(str(error)) is not None
    return code == sqlite3.SQLITE_OK and "decode" in str(error)  # by the module, not by SQLite


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

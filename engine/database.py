"""The store's SQLite database: connections, transactions, and its errors in the engine's words.

Every thread has a connection of its own, so a `Database` may be used by all of them; it may not be
carried over a fork. The file is in WAL mode: readers never wait, there is one writer at a time
among all threads and processes, and a commit is on the disk when it returns (`synchronous=FULL`). A
transaction here is a writer from its first statement (`BEGIN IMMEDIATE`), which makes it the
store's one lock: what is read inside it stays true until its end. It belongs to its thread, so none
may be held over an `await`.

Of sqlite3's errors, those about the file (locked, damaged, read-only, …) are raised as StoreError
and a full disk as OSError (ENOSPC). Constraint violations and wrong SQL stay what they are.
"""

from __future__ import annotations

import errno
import fcntl
import os
import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Final, ParamSpec, Self, TypeVar
from urllib.parse import quote

import msgspec

from engine.errors import StoreError
from engine.schema import MIGRATIONS

_P = ParamSpec("_P")
_T = TypeVar("_T")

BUSY_SECONDS: Final = 30

_SENTENCES: Final = {
    sqlite3.SQLITE_BUSY: (
        f"another process has kept the database locked for {BUSY_SECONDS} s; try again later"
    ),
    sqlite3.SQLITE_LOCKED: "the database is locked by another connection; try again later",
    sqlite3.SQLITE_PROTOCOL: "the database is locked by another process; try again later",
    sqlite3.SQLITE_CORRUPT: "the database is damaged",
    sqlite3.SQLITE_NOTADB: "the file is not a database",
    sqlite3.SQLITE_READONLY: "the database is read-only",
    sqlite3.SQLITE_PERM: "access to the database is denied",
    sqlite3.SQLITE_CANTOPEN: "the database cannot be opened",
    sqlite3.SQLITE_IOERR: "reading or writing the database failed",
}


class _Session(msgspec.Struct):
    """What one thread has: its connection, and what is to be done after its transaction."""

    connection: sqlite3.Connection
    afterwards: list[Callable[[], None]] = []


class Database:
    """The database at `path`, made (mode 0600) or migrated if need be; its directory must be there.

    StoreError if it cannot be used: no database, damaged, or written by a newer version.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._threads = threading.local()
        self._lock = threading.Lock()
        self._sessions: dict[threading.Thread, _Session] = {}
        self._watch: sqlite3.Connection | None = None
        self._closed = False
        try:
            with _locked_directory(path.parent) as directory:
                _create(path, directory)
                self._use_wal()
                self._migrate()
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def connection(self) -> sqlite3.Connection:
        """The calling thread's, to read with; it sees what its own transaction has done so far."""
        return self._session().connection

    def read(self, sql: str, parameters: Any = ()) -> list[Any]:
        """All rows of a query at once, so that no reader's snapshot stays behind."""
        return self.connection.execute(sql, parameters).fetchall()

    @contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """A write transaction of the calling thread: all or, after an exception, nothing of it.

        Inside another one it is a part of that: undone alone if an exception leaves it, but done
        only when the outermost commits. StoreError if the lock does not come within BUSY_SECONDS.
        """
        session = self._session()
        if session.connection.in_transaction:
            with _savepoint(session.connection):
                yield session.connection
            return
        session.connection.execute("BEGIN IMMEDIATE")
        try:
            yield session.connection
            session.connection.execute("COMMIT")
        finally:
            afterwards, session.afterwards = session.afterwards, []
            if session.connection.in_transaction:
                session.connection.execute("ROLLBACK")
            for callback in afterwards:
                callback()

    def after_transaction(self, callback: Callable[[], None]) -> None:
        """Call `callback` when this thread's outermost transaction has ended and its lock is free.

        It is called after a commit and after a rollback: it looks itself at what is stored now. It
        must not raise.
        """
        if not self.in_transaction:
            raise RuntimeError("there is no transaction to wait for")
        self._session().afterwards.append(callback)

    @property
    def in_transaction(self) -> bool:
        """Whether the calling thread is inside `transaction()`."""
        return self.connection.in_transaction

    def data_version(self) -> int:
        """A number that differs from the last call's if anybody, us too, has committed since.

        Its values mean nothing else, and nothing to another `Database`.
        """
        with self._lock:
            if self._watch is None:
                self._watch = self._connect()
            return int(self._watch.execute("PRAGMA data_version").fetchone()[0])

    def close(self) -> None:
        """Close the connections of all threads; a transaction that is open is rolled back."""
        with self._lock:
            self._closed = True
            connections = [session.connection for session in self._sessions.values()]
            self._sessions.clear()
            if self._watch is not None:
                connections.append(self._watch)
                self._watch = None
        for connection in connections:
            connection.close()

    def _session(self) -> _Session:
        session: _Session | None = getattr(self._threads, "session", None)
        if session is None or self._closed:
            with self._lock:
                self._forget_ended_threads()
                session = _Session(self._connect())
                self._sessions[threading.current_thread()] = session
            self._threads.session = session
        return session

    def _forget_ended_threads(self) -> None:
        for thread in [thread for thread in self._sessions if not thread.is_alive()]:
            self._sessions.pop(thread).connection.close()

    def _connect(self) -> sqlite3.Connection:
        if self._closed:
            raise StoreError(str(self.path), "the database is closed")
        try:
            connection = sqlite3.connect(
                f"file:{quote(os.fsencode(self.path))}?mode=rw",
                uri=True,
                timeout=BUSY_SECONDS,
                isolation_level=None,
                check_same_thread=False,
                factory=_Connection,
            )
        except sqlite3.Error as error:
            raise _translated(error, str(self.path)) from error
        connection.path = str(self.path)
        try:
            connection.execute("PRAGMA synchronous = FULL")
            connection.execute("PRAGMA foreign_keys = ON")
        except BaseException:
            connection.close()
            raise
        return connection

    def _use_wal(self) -> None:
        mode = self.connection.execute("PRAGMA journal_mode = WAL").fetchone()[0]
        if mode != "wal":
            raise StoreError(str(self.path), "the file system does not support SQLite's WAL mode")

    def _migrate(self) -> None:
        if _schema(self.connection) == len(MIGRATIONS):
            return
        with self.transaction() as connection:
            found = _schema(connection)
            if found > len(MIGRATIONS):
                known = f"schema {found}, this one knows {len(MIGRATIONS)}"
                raise StoreError(str(self.path), f"it was written by a newer version ({known})")
            for migration in MIGRATIONS[found:]:
                for statement in migration:
                    connection.execute(statement)
            connection.execute(f"PRAGMA user_version = {len(MIGRATIONS)}")


class _Connection(sqlite3.Connection):
    path: str

    def execute(self, sql: str, parameters: Any = (), /) -> sqlite3.Cursor:
        return _Cursor(self).execute(sql, parameters)

    def executemany(self, sql: str, parameters: Any, /) -> sqlite3.Cursor:
        return _Cursor(self).executemany(sql, parameters)


class _Cursor(sqlite3.Cursor):
    """A cursor of a `_Connection` whose errors are translated, those of its rows too."""

    connection: _Connection

    def execute(self, sql: str, parameters: Any = (), /) -> Self:
        return self._translating(super().execute, sql, parameters)

    def executemany(self, sql: str, parameters: Any, /) -> Self:
        return self._translating(super().executemany, sql, parameters)

    def fetchone(self) -> Any:
        return self._translating(super().fetchone)

    def fetchmany(self, size: int | None = 1) -> list[Any]:
        return self._translating(super().fetchmany, size)

    def fetchall(self) -> list[Any]:
        return self._translating(super().fetchall)

    def __next__(self) -> Any:
        return self._translating(super().__next__)

    def _translating(self, call: Callable[_P, _T], *args: _P.args, **kwargs: _P.kwargs) -> _T:
        try:
            return call(*args, **kwargs)
        except sqlite3.Error as error:
            raise _translated(error, self.connection.path) from error


def _translated(error: sqlite3.Error, path: str) -> Exception:
    code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_OK) & 0xFF
    if code == sqlite3.SQLITE_FULL:
        return OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), path)
    if code in _SENTENCES:
        return StoreError(path, _SENTENCES[code])
    return error


@contextmanager
def _savepoint(connection: sqlite3.Connection) -> Iterator[None]:
    connection.execute("SAVEPOINT part")
    try:
        yield
    except BaseException:
        # A full disk makes SQLite roll back everything by itself.
        if connection.in_transaction:
            connection.execute("ROLLBACK TO part")
            connection.execute("RELEASE part")
        raise
    connection.execute("RELEASE part")


@contextmanager
def _locked_directory(path: Path) -> Iterator[int]:
    """Alone among all openers: SQLite waits for nobody while a new file is switched to WAL."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield descriptor
    finally:
        os.close(descriptor)


def _create(path: Path, directory: int) -> None:
    """Make the file, closed to others from the start; SQLite gives its companions the same mode."""
    with suppress(FileExistsError):
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
        os.fsync(directory)


def _schema(connection: sqlite3.Connection) -> int:
    return int(connection.execute("PRAGMA user_version").fetchone()[0])

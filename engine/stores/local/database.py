"""The SQLite database of a store: connections of threads, and transactions.

Every thread has its own connection, so a `Database` may be used by all threads. It must not be used
after a fork: in the child all reads and writes raise StoreError (`forks.py`). The file is in WAL
mode: readers never wait, there is one writer at a time among all threads and processes, and a
commit is durable when it returns (`synchronous=FULL`). A transaction is a write transaction from
its first statement (`BEGIN IMMEDIATE`), so it is the lock of the store: what it has read stays true
until its end. It belongs to its thread, so none may be held across an `await`.

A connection with an error of the file or the disk (`connection.py`) is replaced before its next
use, so that a fault ends with its cause. So is one whose file is no longer at the path, since
`imgfs fsck --repair` has made the database anew. A transaction and `data_version` look at the path;
other reads do not, since that would cost a quarter of a query.
"""

from __future__ import annotations

import fcntl
import os
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

import msgspec

from engine.closing import Closing
from engine.errors import StoreBusy, StoreError
from engine.stores.local import forks
from engine.stores.local.connection import (
    BUSY_SECONDS,
    CLOSED,
    LOCKED,
    Connection,
    damaged,
    may_lack_space,
    translated,
)
from engine.stores.local.reserve import Reserve
from engine.stores.local.schema import MIGRATIONS

SUFFIXES: Final = ("", "-wal", "-shm", "-journal")
"""The ends of the names of a database's files."""
_POLL: Final = 0.02
_CACHE_KIB: Final = 256


class _Session(msgspec.Struct):
    """The state of one thread: its connection, and the callbacks to run after its transaction."""

    connection: Connection
    afterwards: dict[Callable[[], None], None] = {}
    shortage: OSError | None = None
    """The error of the disk if the transaction has only the reserve."""


class Database(Closing):
    """The database at `path`, created (mode 0600) or migrated if necessary; its directory must
    exist.

    Raise StoreError if it is no database, damaged, or written by a newer version, that is, one with
    more than these `migrations`; OSError if the disk fails.
    """

    def __init__(self, path: Path, migrations: Sequence[Sequence[str]] = MIGRATIONS) -> None:
        self.path = path
        self._migrations = migrations
        self._reserve = Reserve(path.parent / "reserve")
        self._threads = threading.local()
        self._lock = threading.Lock()
        self._sessions: dict[threading.Thread, _Session] = {}
        self._watch: Connection | None = None
        self._watches = 0
        self._closed = False
        self._pid = os.getpid()
        try:
            try:
                # A disk may have space for a part of what SQLite maps; the rest is a SIGBUS.
                with nullcontext() if self._reserve.is_besides() else self._reserve.given_up():
                    self._prepare()
            except (OSError, StoreError) as error:
                if not may_lack_space(error):
                    raise
                with self._reserve.given_up():
                    self._prepare()
        except BaseException:
            self.close()
            raise

    @property
    def connection(self) -> Connection:
        """The calling thread's connection for reading, which sees its uncommitted changes."""
        return self._session().connection

    def read(self, sql: str, parameters: Any = ()) -> list[Any]:
        """Return all rows of a query at once, so that no read snapshot stays open."""
        return self.connection.execute(sql, parameters).fetchall()

    def pages(self, sql: str, size: int) -> Iterator[list[Any]]:
        """Yield the rows of a query in lists of `size`; its parameters are the first column of the
        row before, and `size`.

        Raise StoreDamaged if the rows are not in order, which might go on for ever.
        """
        last = ""
        while rows := self.read(sql, (last, size)):
            yield rows
            following = rows[-1][0]
            if not (isinstance(following, str) and following > last):
                raise damaged(self.path, f"the order of the rows behind {last!r}")
            last = following

    @contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """Enter a write transaction of the calling thread, which an exception rolls back.

        A nested transaction is a part of the outer one: an exception rolls back that part alone,
        and only the outermost commits. Raise StoreBusy if the lock is not available within
        BUSY_SECONDS, StoreError if a newer version has changed the schema in the meantime.
        """
        session = self._session()
        if session.connection.in_transaction:
            with _savepoint(session.connection):
                yield session.connection
            return
        session = self._begun(session)
        connection = session.connection
        try:
            self._check_schema(connection)
            with self._reserve.transaction() as session.shortage:
                yield connection
                connection.execute("COMMIT")
                if session.shortage:
                    _shorten_log(connection)
        finally:
            afterwards, session.afterwards = session.afterwards, {}
            if connection.in_transaction:
                self._roll_back(session)
            for callback in afterwards:
                callback()

    def _begun(self, session: _Session) -> _Session:
        """Begin a transaction on the file that is at the path, also if it was replaced while this
        waited for the lock; return the session that has it.
        """
        while True:
            if session.connection.is_read_only or self._is_replaced(session.connection):
                session = self._renewed(session)
            session.connection.execute("BEGIN IMMEDIATE")
            try:
                is_replaced = self._is_replaced(session.connection)
            except BaseException:
                self._roll_back(session)
                raise
            if not is_replaced:
                return session
            self._roll_back(session)

    def check_room(self) -> None:
        """Raise OSError in a transaction that has only the reserve of a full disk, from which
        something can be removed but nothing added.
        """
        if shortage := self._session().shortage:
            raise OSError(shortage.errno, shortage.strerror, str(self.path))

    def after_transaction(self, callback: Callable[[], None]) -> None:
        """Call `callback` after this thread's outermost transaction, when its lock is released.

        It is called once, after a commit or a rollback, and must itself read what is stored now. It
        must not raise.
        """
        if not self.in_transaction:
            raise RuntimeError("there is no transaction to wait for")
        self._session().afterwards[callback] = None

    @property
    def in_transaction(self) -> bool:
        """Return whether the calling thread is inside `transaction()`."""
        return self.connection.in_transaction

    def data_version(self) -> int:
        """Return a number that changes if any connection, also of this process, has committed, or
        if the file was replaced.

        It is comparable only with earlier results of the same `Database`.
        """
        self._check_not_inherited()
        with self._lock:
            watch, file = self._watch, forks.file_at(self.path)
            if watch is not None and (watch.failed or file not in (None, watch.file)):
                watch.close()
                self._watch = None
            if self._watch is None:
                self._watch = self._connect()
                self._watches += 1
                self._give_up_others(self._watch.file)
            version = int(self._watch.execute("PRAGMA data_version").fetchone()[0])
            return self._watches << 32 | version

    def close(self) -> None:
        """Close the connections of all threads, and roll back open transactions.

        In the child of a fork it does nothing.
        """
        if self._is_inherited:
            return
        with self._lock:
            self._closed = True
            connections = [session.connection for session in self._sessions.values()]
            self._sessions.clear()
            if self._watch is not None:
                connections.append(self._watch)
                self._watch = None
        for connection in connections:
            connection.give_up()
        self._reserve.refill()

    @property
    def _is_inherited(self) -> bool:
        return self._pid != os.getpid()

    def _check_not_inherited(self) -> None:
        if self._is_inherited:
            raise StoreError(str(self.path), forks.SENTENCE)

    def _session(self) -> _Session:
        self._check_not_inherited()
        session: _Session | None = getattr(self._threads, "session", None)
        if session is None or self._closed:
            session = self._new_session()
        elif session.connection.failed and not session.connection.in_transaction:
            session = self._renewed(session)
        return session

    def _is_replaced(self, connection: Connection) -> bool:
        """Return whether the file of a connection is no longer at the path."""
        return connection.file != forks.file_at(self.path)

    def _give_up_others(self, file: forks.File) -> None:
        """Have every thread renew a connection to another file. `failed` is set and never cleared,
        so that no thread overwrites what another has found.
        """
        for session in self._sessions.values():
            if session.connection.file != file:
                session.connection.failed = True

    def _new_session(self) -> _Session:
        with self._lock:
            self._forget_ended_threads()
            session = _Session(self._connect())
            self._sessions[threading.current_thread()] = session
        self._threads.session = session
        return session

    def _renewed(self, session: _Session) -> _Session:
        session.connection.close()
        self._threads.session = None
        return self._new_session()

    def _roll_back(self, session: _Session) -> None:
        try:
            session.connection.execute("ROLLBACK")
        except (sqlite3.Error, StoreError, OSError):
            session.connection.close()  # ends the transaction in any case
            self._threads.session = None

    def _forget_ended_threads(self) -> None:
        for thread in [thread for thread in self._sessions if not thread.is_alive()]:
            self._sessions.pop(thread).connection.close()

    def _connect(self) -> Connection:
        """Connect to the file at the path; if it is being replaced, to the new one."""
        if self._closed:
            raise StoreError(str(self.path), CLOSED)
        file = forks.file_at(self.path)
        try:
            return self._connected(file)
        except StoreError:
            if file is not None and file == forks.file_at(self.path):
                raise
        with locked_directory(self.path.parent):
            return self._connected(forks.file_at(self.path))

    def _connected(self, file: forks.File) -> Connection:
        if forks.is_inherited(file):
            raise StoreError(str(self.path), forks.SENTENCE)
        try:
            connection = sqlite3.connect(
                f"file:{quote(os.fsencode(self.path))}?mode=rw",
                uri=True,
                timeout=BUSY_SECONDS,
                isolation_level=None,
                check_same_thread=False,
                factory=Connection,
            )
        except sqlite3.Error as error:
            raise translated(error, str(self.path)) from error
        connection.path = str(self.path)
        connection.file = file
        connection.is_read_only = not os.access(self.path, os.W_OK)
        forks.opened(connection, file)
        try:
            connection.execute("PRAGMA synchronous = FULL")
            connection.execute(f"PRAGMA cache_size = -{_CACHE_KIB}")
            connection.execute("PRAGMA foreign_keys = ON")
        except BaseException:
            connection.close()
            raise
        return connection

    def _use_wal(self) -> None:
        mode = self.connection.execute("PRAGMA journal_mode = WAL").fetchone()[0]
        if mode != "wal":
            raise StoreError(str(self.path), "the file system does not support SQLite's WAL mode")

    def _prepare(self) -> None:
        if not self._is_ready():
            with locked_directory(self.path.parent) as directory:
                _create(self.path, directory)
                self._use_wal()
                self._migrate()

    def _is_ready(self) -> bool:
        """Return whether the file needs no change, so that opening it waits for no process."""
        try:
            if not self.path.stat().st_size:
                return False
        except FileNotFoundError:
            return False
        mode = self.connection.execute("PRAGMA journal_mode").fetchone()[0]
        self._check_schema(self.connection)
        return mode == "wal" and _schema(self.connection) == len(self._migrations)

    def _migrate(self) -> None:
        with self.transaction() as connection:
            for migration in self._migrations[_schema(connection) :]:
                for statement in migration:
                    connection.execute(statement)
            connection.execute(f"PRAGMA user_version = {len(self._migrations)}")

    def _check_schema(self, connection: Connection) -> None:
        found, known = _schema(connection), len(self._migrations)
        if found > known:
            reason = f"it was written by a newer version (schema {found}, this one knows {known})"
            raise StoreError(str(self.path), reason)


def _shorten_log(connection: Connection) -> None:
    """Let the next transaction write to the start of the WAL, for which the disk has space."""
    with suppress(sqlite3.Error, StoreError, OSError):
        connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()


@contextmanager
def _savepoint(connection: sqlite3.Connection) -> Iterator[None]:
    connection.execute("SAVEPOINT part")
    try:
        yield
    except BaseException:
        # A full disk makes SQLite roll back the whole transaction by itself.
        if connection.in_transaction:
            connection.execute("ROLLBACK TO part")
            connection.execute("RELEASE part")
        raise
    connection.execute("RELEASE part")


@contextmanager
def locked_directory(path: Path) -> Iterator[int]:
    """Lock out all other openers: SQLite does not wait for them while a new file is switched to
    WAL, or the file is replaced.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        deadline = time.monotonic() + BUSY_SECONDS
        while not _lock(descriptor):
            if time.monotonic() > deadline:
                raise StoreBusy(str(path), LOCKED)
            time.sleep(_POLL)
        yield descriptor
    finally:
        os.close(descriptor)


def _lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _create(path: Path, directory: int) -> None:
    """Create the file, private from the start; SQLite gives its companion files the same mode."""
    with suppress(FileExistsError):
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
        os.fsync(directory)


def _schema(connection: sqlite3.Connection) -> int:
    return int(connection.execute("PRAGMA user_version").fetchone()[0])

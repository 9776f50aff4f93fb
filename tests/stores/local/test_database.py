from __future__ import annotations

import errno
import gc
import os
import sqlite3
import stat
import subprocess
import sys
import threading
import weakref
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from engine.errors import StoreError
from engine.stores.local.connection import Connection
from engine.stores.local.database import Database
from engine.stores.local.schema import MIGRATIONS, TABLES

INSERT = "INSERT INTO blobs VALUES (?, 1, 0, 0, '{}')"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "imgfs.db"


@pytest.fixture
def database(path: Path) -> Iterator[Database]:
    with Database(path) as database:
        yield database


def digests(database: Database) -> list[str]:
    return [digest for (digest,) in database.read("SELECT digest FROM blobs ORDER BY digest")]


def fail_after(database: Database, *names: str) -> None:
    with database.transaction() as connection:
        for name in names:
            connection.execute(INSERT, (name,))
        raise ZeroDivisionError


def in_thread(call: Callable[[], object]) -> object:
    outcome: list[object] = []

    def run() -> None:
        try:
            outcome.append(call())
        except Exception as error:
            outcome.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    return outcome[0]


def impatient(path: Path) -> Database:
    """A database that does not wait for its lock in this thread."""
    database = Database(path)
    database.read("PRAGMA busy_timeout = 0")
    return database


# Opening


def test_the_file_is_for_its_owner_only(path: Path) -> None:
    umask = os.umask(0)
    try:
        with Database(path) as database, database.transaction() as connection:
            connection.execute(INSERT, ("a",))
            names = sorted(file.name for file in path.parent.iterdir())
            assert names == ["imgfs.db", "imgfs.db-shm", "imgfs.db-wal", "reserve"]
            modes = {stat.S_IMODE(file.stat().st_mode) for file in path.parent.iterdir()}
            assert modes == {0o600}
    finally:
        os.umask(umask)


def test_settings(database: Database) -> None:
    assert database.read("PRAGMA journal_mode") == [("wal",)]
    assert database.read("PRAGMA synchronous") == [(2,)]
    assert database.read("PRAGMA foreign_keys") == [(1,)]
    assert database.read("PRAGMA busy_timeout") == [(30_000,)]


def test_cursors_do_not_pile_up(database: Database) -> None:
    """A connection forgets those that are gone only if it has made them itself."""

    def references() -> int:
        return sum(isinstance(thing, weakref.ref) for thing in gc.get_objects())

    before = references()
    for _ in range(2000):
        database.read("SELECT 1")
    assert references() - before < 500


def test_tables(database: Database) -> None:
    tables = database.read(
        "SELECT name FROM sqlite_schema WHERE type = 'table'"
        " AND name NOT LIKE 'sqlite_%' ORDER BY name"
    )
    names = (
        "blobs events images lease_resources leases links manifests members missing refs targets"
    )
    assert [name for (name,) in tables] == names.split() == sorted(TABLES)
    assert database.read("PRAGMA user_version") == [(len(MIGRATIONS),)]


def test_an_odd_path(tmp_path: Path) -> None:
    for name in ("a b?mode=ro#x%20", "ü\udc80"):
        with Database(tmp_path / name) as database:
            assert digests(database) == []
        assert (tmp_path / name).is_file()


def test_opened_again(path: Path) -> None:
    with Database(path) as database, database.transaction() as connection:
        connection.execute(INSERT, ("a",))
    with Database(path) as database:
        assert digests(database) == ["a"]


def test_a_missing_directory(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        Database(tmp_path / "missing" / "imgfs.db")


def test_opened_by_many_at_once(path: Path) -> None:
    script = """
import sys
from pathlib import Path
from engine.stores.local.connection import Connection
from engine.stores.local.database import Database
sys.stdin.readline()
with Database(Path(sys.argv[1])) as database, database.transaction() as connection:
    connection.execute("INSERT INTO blobs VALUES (?, 1, 0, 0, '{}')", (sys.argv[2],))
"""
    children = [
        subprocess.Popen(
            [sys.executable, "-c", script, path, str(number)],
            cwd=Path(__file__).parents[3],
            stdin=subprocess.PIPE,
        )
        for number in range(4)
    ]
    try:
        for child in children:
            assert child.stdin is not None
            child.stdin.write(b"go\n")
            child.stdin.flush()
        for child in children:
            child.communicate(timeout=60)
    finally:
        for child in children:
            child.kill()
            child.communicate()
    assert [child.returncode for child in children] == [0] * 4
    with Database(path) as database:
        assert digests(database) == ["0", "1", "2", "3"]


# Migrations


def test_a_newer_store(path: Path) -> None:
    Database(path).close()
    with sqlite3.connect(path) as connection:
        connection.execute("PRAGMA user_version = 1000")
    connection.close()
    with pytest.raises(StoreError, match=r"newer version \(schema 1000, this one knows") as caught:
        Database(path)
    assert caught.value.subject == str(path)


def test_a_migration(path: Path) -> None:
    with Database(path) as database, database.transaction() as connection:
        connection.execute(INSERT, ("a",))
    more = ("CREATE TABLE more (x)", "INSERT INTO more VALUES (7)")
    for _ in range(2):
        with Database(path, (*MIGRATIONS, more)) as database:
            assert database.read("SELECT x FROM more") == [(7,)]
            assert digests(database) == ["a"]


def test_a_migration_that_fails(path: Path) -> None:
    Database(path).close()
    broken = ("CREATE TABLE more (x)", "INSERT INTO more VALUES (7, 8)")
    with pytest.raises(sqlite3.OperationalError, match="2 values"):
        Database(path, (*MIGRATIONS, broken))
    with Database(path) as database:
        assert database.read("SELECT * FROM sqlite_schema WHERE name = 'more'") == []


# Transactions


def test_a_transaction(database: Database) -> None:
    with database.transaction() as connection:
        assert connection is database.connection
        assert database.in_transaction
        connection.execute(INSERT, ("a",))
        assert digests(database) == ["a"]
        assert in_thread(lambda: digests(database)) == []
        assert in_thread(lambda: database.in_transaction) is False
    assert not database.in_transaction
    assert in_thread(lambda: digests(database)) == ["a"]


def test_a_transaction_that_fails(database: Database) -> None:
    with pytest.raises(ZeroDivisionError):
        fail_after(database, "a", "b")
    assert not database.in_transaction
    assert digests(database) == []


def test_a_transaction_inside(database: Database) -> None:
    with database.transaction() as outer:
        outer.execute(INSERT, ("a",))
        with database.transaction() as inner:
            assert inner is outer
            inner.execute(INSERT, ("b",))
        assert in_thread(lambda: digests(database)) == []
    assert digests(database) == ["a", "b"]


def test_a_failure_inside_that_is_caught(database: Database) -> None:
    with database.transaction() as connection:
        connection.execute(INSERT, ("a",))
        with pytest.raises(ZeroDivisionError):
            fail_after(database, "b")
        connection.execute(INSERT, ("c",))
    assert digests(database) == ["a", "c"]


def test_a_failure_outside_takes_what_is_inside(database: Database) -> None:
    def fail() -> None:
        with database.transaction():
            with database.transaction() as connection:
                connection.execute(INSERT, ("a",))
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert digests(database) == []


def test_one_writer_at_a_time(database: Database, path: Path) -> None:
    with impatient(path) as other:
        with database.transaction():
            with pytest.raises(StoreError, match="locked"), other.transaction():
                pass
            assert digests(other) == []
        with other.transaction() as connection:
            connection.execute(INSERT, ("a",))
    assert digests(database) == ["a"]


def test_a_killed_writer(database: Database, path: Path) -> None:
    script = """
import os, signal, sys
from pathlib import Path
from engine.stores.local.connection import Connection
from engine.stores.local.database import Database
with Database(Path(sys.argv[1])).transaction() as connection:
    connection.execute("INSERT INTO blobs VALUES ('a', 1, 0, 0, '{}')")
    os.kill(os.getpid(), signal.SIGKILL)
"""
    child = subprocess.run(
        [sys.executable, "-c", script, path], cwd=Path(__file__).parents[3], check=False
    )
    assert child.returncode == -9
    with database.transaction() as connection:
        assert digests(database) == []
        connection.execute(INSERT, ("b",))


def test_after_a_transaction(database: Database) -> None:
    seen: list[object] = []

    def look() -> None:
        seen.append((database.in_transaction, digests(database)))

    def fail() -> None:
        with database.transaction() as connection:
            connection.execute(INSERT, ("b",))
            database.after_transaction(look)
            database.after_transaction(lambda: look())
            raise ZeroDivisionError

    with database.transaction() as connection:
        database.after_transaction(look)
        connection.execute(INSERT, ("a",))
        with pytest.raises(ZeroDivisionError):
            fail()
        assert seen == []
    assert seen == [(False, ["a"])] * 2  # each callback once
    with pytest.raises(ZeroDivisionError):
        fail()
    assert seen == [(False, ["a"])] * 4
    with database.transaction():
        pass
    assert len(seen) == 4


def test_after_no_transaction(database: Database) -> None:
    with pytest.raises(RuntimeError):
        database.after_transaction(lambda: None)


# Threads


def test_a_connection_a_thread(database: Database) -> None:
    mine = database.connection
    assert database.connection is mine
    assert in_thread(lambda: database.connection is mine) is False


def test_connections_of_ended_threads_are_closed(database: Database) -> None:
    ended = in_thread(lambda: database.connection)
    in_thread(lambda: database.connection)
    assert isinstance(ended, sqlite3.Connection)
    with pytest.raises(StoreError, match="closed"):
        ended.execute("SELECT 1")


def test_closed(path: Path) -> None:
    database = Database(path)
    database.data_version()
    mine, ready, done = database.connection, threading.Event(), threading.Event()

    def work() -> None:
        assert digests(database) == []
        ready.set()
        done.wait()

    thread = threading.Thread(target=work)
    thread.start()
    ready.wait()
    database.close()
    done.set()
    thread.join()
    database.close()
    assert sorted(file.name for file in path.parent.iterdir()) == ["imgfs.db", "reserve"]
    with pytest.raises(StoreError, match="closed"):
        mine.execute("SELECT 1")
    for use in (
        lambda: database.connection,
        database.data_version,
        database.transaction().__enter__,
    ):
        with pytest.raises(StoreError, match="closed"):
            use()


def test_data_version(database: Database, path: Path) -> None:
    last = database.data_version()

    def changed() -> bool:
        nonlocal last
        before, last = last, database.data_version()
        return last != before

    assert not changed()
    with database.transaction() as connection:
        connection.execute(INSERT, ("a",))
        assert not changed()
    assert changed()
    with Database(path) as other:
        digests(other)
        assert not changed()
        with other.transaction() as connection:
            connection.execute(INSERT, ("b",))
        assert changed()
    with pytest.raises(ZeroDivisionError):
        fail_after(database, "c")
    assert not changed()
    assert in_thread(changed) is False


def test_a_look_at_the_version_changes_no_connection(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each belongs to its thread, which may be setting `failed`."""
    assert digests(database) == []
    database.data_version()
    changed: list[str] = []

    def watched(connection: Connection, name: str, value: object) -> None:
        if name == "failed":
            changed.append(name)
        object.__setattr__(connection, name, value)

    monkeypatch.setattr(Connection, "__setattr__", watched)
    database.data_version()
    assert changed == []


# Replacement of the file


def replace(path: Path, *names: str) -> None:
    """Put another database in the place of one that may be open, whose log goes with it."""
    other = path.with_name("other.db")
    with Database(other) as database, database.transaction() as connection:
        connection.executemany(INSERT, [(name,) for name in names])
    for companion in ("", "-wal", "-shm"):
        old = path.with_name(f"{path.name}{companion}")
        with suppress(FileNotFoundError):
            old.rename(f"{old}.old")
    other.rename(path)


def test_a_reader_learns_of_another_file(database: Database, path: Path) -> None:
    with database.transaction() as connection:
        connection.execute(INSERT, ("a",))
    version = database.data_version()
    replace(path, "b")
    assert database.data_version() != version
    assert digests(database) == ["b"]
    assert database.data_version() == database.data_version()


def test_another_thread_learns_of_another_file(database: Database, path: Path) -> None:
    looked, replaced = threading.Event(), threading.Event()
    seen: list[list[str]] = []

    def work() -> None:
        seen.append(digests(database))
        looked.set()
        replaced.wait()
        seen.append(digests(database))

    thread = threading.Thread(target=work)
    thread.start()
    looked.wait()
    replace(path, "b")
    database.data_version()
    replaced.set()
    thread.join()
    assert seen == [[], ["b"]]


def test_a_reader_keeps_its_file_while_there_is_none(database: Database, path: Path) -> None:
    with database.transaction() as connection:
        connection.execute(INSERT, ("a",))
    version = database.data_version()
    path.rename(path.with_name("away"))
    assert database.data_version() == version
    assert digests(database) == ["a"]


def test_a_transaction_that_waits_while_the_file_is_replaced(
    database: Database, path: Path
) -> None:
    """Who replaces it holds the lock; the change must go to the new file."""
    holder = sqlite3.connect(path, isolation_level=None)
    holder.execute("BEGIN IMMEDIATE")
    began, execute = threading.Event(), Connection.execute

    def watched(connection: Connection, sql: str, parameters: object = ()) -> sqlite3.Cursor:
        if sql == "BEGIN IMMEDIATE":
            began.set()
        return execute(connection, sql, parameters)

    def change() -> None:
        with database.transaction() as connection:
            connection.execute(INSERT, ("new",))

    thread = threading.Thread(target=change)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Connection, "execute", watched)
        thread.start()
        began.wait()
        with pytest.MonkeyPatch.context() as inner:
            inner.setattr(Connection, "execute", execute)
            replace(path, "b")
        holder.close()
        thread.join()
    with Database(path) as other:
        assert digests(other) == ["b", "new"]


# Errors


def test_not_a_database(path: Path) -> None:
    path.write_bytes(b"this is not a database, it is text" * 100)
    with pytest.raises(StoreError, match=f"store {path}: the file is not a database"):
        Database(path)


def test_a_damaged_database(path: Path) -> None:
    with Database(path) as database, database.transaction() as connection:
        connection.executemany(INSERT, [(f"{i:09}" * 20,) for i in range(3000)])
    size = path.stat().st_size
    with path.open("r+b") as file:
        file.seek(size // 2)
        file.write(b"\xa5" * (size // 4))
    with Database(path) as database:
        cursor = database.connection.execute("SELECT digest FROM blobs")
        with pytest.raises(StoreError, match="damaged"):
            cursor.fetchall()
        cursor = database.connection.execute("SELECT digest FROM blobs")
        with pytest.raises(StoreError, match="damaged"):
            list(cursor)


def test_a_directory_in_its_place(path: Path) -> None:
    path.mkdir()
    with pytest.raises(StoreError, match="cannot be opened"):
        Database(path)


def test_a_database_that_has_been_removed(database: Database, path: Path) -> None:
    path.unlink()
    outcome = in_thread(lambda: database.connection)
    assert isinstance(outcome, StoreError)
    assert "cannot be opened" in str(outcome)
    assert not path.exists()


def test_a_read_only_database(database: Database) -> None:
    database.read("PRAGMA query_only = ON")
    with pytest.raises(StoreError, match="read-only"):
        fail_after(database, "a")


def test_a_full_database(database: Database) -> None:
    pages = database.read("PRAGMA page_count")[0][0]
    database.read(f"PRAGMA max_page_count = {pages}")
    with pytest.raises(OSError, match="No space left") as caught:
        fail_after(database, *(f"{i:09}" * 20 for i in range(3000)))
    assert caught.value.errno == errno.ENOSPC
    assert not database.in_transaction
    assert digests(database) == []


def test_constraints_and_bad_sql_are_not_the_store_s_fault(database: Database) -> None:
    with pytest.raises(sqlite3.IntegrityError):
        fail_after(database, "a", "a")
    with pytest.raises(sqlite3.OperationalError, match="syntax"):
        database.read("SELEKT")
    with pytest.raises(sqlite3.IntegrityError, match="FOREIGN KEY"), database.transaction() as c:
        c.execute("INSERT INTO lease_resources VALUES ('nobody', 'a')")


def test_cursors(database: Database) -> None:
    with database.transaction() as connection:
        connection.executemany(INSERT, [("a",), ("b",), ("c",)])
    cursor = database.connection.execute("SELECT digest FROM blobs ORDER BY digest")
    assert cursor.fetchone() == ("a",)
    assert cursor.fetchmany(1) == [("b",)]
    assert list(cursor) == [("c",)]
    assert cursor.fetchone() is None


def test_a_database_that_is_closed_during_a_call_ends_with_an_error(path: Path) -> None:
    """The sqlite3 module would crash."""
    begun, released = threading.Event(), threading.Event()
    database = Database(path)
    errors: list[BaseException] = []

    def hold() -> int:
        begun.set()
        return released.wait(30)

    def read() -> None:
        connection = database.connection
        connection.create_function("hold", 0, hold)
        try:
            for _ in range(2):
                connection.execute("SELECT hold()").fetchall()
        except StoreError as error:
            errors.append(error)

    reading = threading.Thread(target=read)
    reading.start()
    assert begun.wait(30)
    database.close()
    released.set()
    reading.join()
    (error,) = errors
    assert "the database is closed" in str(error)
    assert database.path.exists()


def test_a_connection_that_is_given_up_within_a_call_is_closed_after_the_outermost(
    database: Database,
) -> None:
    connection = database.connection

    def parameters() -> Iterator[tuple[str]]:
        connection.is_given_up = True
        assert digests(database) == []
        yield ("a",)

    connection.executemany(INSERT, parameters())
    with pytest.raises(StoreError, match="closed"):
        connection.execute("SELECT 1")

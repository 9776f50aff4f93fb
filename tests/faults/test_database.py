"""The database is locked, damaged, lost, replaced, or of another version."""

import os
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from engine.errors import StoreBusy, StoreError
from engine.stores.local import database as module
from engine.stores.local.database import Database
from engine.stores.local.schema import MIGRATIONS
from imgfs import cli
from imgfs.fuse.errnos import errno_of
from tests.cli.command import Command, Done, refusal, succeeded
from tests.faults import stores
from tests.faults.stores import OPERATIONS, leftovers, listed
from tests.local_engine import LocalEngine

PROJECT = Path(__file__).parents[2]
HOLD = """
import sqlite3, sys
connection = sqlite3.connect(sys.argv[1], isolation_level=None)
connection.execute("BEGIN IMMEDIATE")
connection.execute("UPDATE images SET updated_at = 0")
print("held", flush=True)
sys.stdin.read()
"""


@contextmanager
def locked(store: Path) -> Iterator[None]:
    """Have another process hold a transaction during the block."""
    command = [sys.executable, "-c", HOLD, str(store / "imgfs.db")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"held\n"
        try:
            yield
        finally:
            holder.communicate()


@pytest.fixture
def short_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "BUSY_SECONDS", 0.05)


def run_inside(capsys: pytest.CaptureFixture[str], *arguments: str | Path) -> Done:
    """Run a command inside this process."""
    status = cli.run([*map(str, arguments)])
    out, err = capsys.readouterr()
    return Done(status, out.encode(), err.encode())


# Locked


@pytest.mark.usefixtures("short_wait")
def test_writers_of_a_locked_database_wait_and_give_up(
    store: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with LocalEngine(store) as engine:
        before = listed(engine)
        with locked(store):
            for name in ("load", "commit", "tag", "remove", "save"):
                with pytest.raises(StoreBusy) as caught:
                    OPERATIONS[name](engine)
                assert os.strerror(errno_of(caught.value)) == "Device or resource busy"
            said = refusal(run_inside(capsys, "--store", store, "tag", "base:1", "base:2"))
            assert "another process has kept the database locked" in said
            assert "try again later" in said
        assert (listed(engine), leftovers(engine)) == (before, [])
        stores.load(engine)


@pytest.mark.usefixtures("short_wait")
def test_readers_of_a_locked_database_do_not_wait(
    store: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with locked(store), LocalEngine(store) as engine:
        assert [image.familiar for image in engine.images.all()] == ["base:1"]
        assert engine.database.data_version()
        assert succeeded(run_inside(capsys, "--store", store, "images", "-q")).lines
        assert succeeded(run_inside(capsys, "--store", store, "inspect", "base:1")).lines


@pytest.mark.usefixtures("short_wait")
def test_a_store_that_another_process_is_making_is_busy(tmp_path: Path) -> None:
    script = "import fcntl, os, sys; fcntl.flock(os.open(sys.argv[1], os.O_RDONLY), fcntl.LOCK_EX)"
    script += "; print(flush=True); sys.stdin.read()"
    command = [sys.executable, "-c", script, str(tmp_path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None
        holder.stdout.readline()
        with pytest.raises(StoreBusy):
            LocalEngine(tmp_path)
        holder.communicate()
    with LocalEngine(tmp_path) as engine:
        stores.load(engine, stores.BASE)


# Damaged


def damage(path: Path, offset: int, length: int) -> Callable[[], None]:
    """Damage bytes of a file in place; return a function that restores them."""
    with path.open("rb") as file:
        file.seek(offset)
        good = file.read(length)

    def write(data: bytes) -> None:
        with path.open("r+b") as file:
            file.seek(offset)
            file.write(data)

    write(b"\xa5" * len(good))
    return lambda: write(good)


DAMAGES = {
    "its header": (0, 100, "the file is not a database, or its header is damaged"),
    "its first page": (100, 3996, "the database is damaged"),
    "its pages": (4096, 1 << 30, "the database is damaged"),
}


@pytest.mark.parametrize("what", DAMAGES)
def test_a_damaged_database_is_reported_and_not_changed(imgfs: Command, what: str) -> None:
    offset, length, sentence = DAMAGES[what]
    with LocalEngine(imgfs.store) as engine:
        before = listed(engine)
    restore = damage(imgfs.store / "imgfs.db", offset, length)
    for command in (("images",), ("tag", "base:1", "base:2"), ("rm", "base:1"), ("load",)):
        said = refusal(imgfs(*command, stdin=stores.APP))
        assert f"store {imgfs.store}/imgfs.db: {sentence}: run imgfs fsck" in said
    restore()
    with LocalEngine(imgfs.store) as engine:
        assert listed(engine) == before


def test_damage_to_an_open_database_is_reported(store: Path, tmp_path: Path) -> None:
    """Another process does the damage: closing the file in this one would release SQLite's
    locks.
    """
    spoil = "import sys; f = open(sys.argv[1], 'r+b'); f.seek(4096); f.write(bytes([0xa5]) * {})"
    restore = "import sys; f = open(sys.argv[1], 'r+b'); f.write(open(sys.argv[2], 'rb').read())"
    file = store / "imgfs.db"
    (tmp_path / "good").write_bytes(file.read_bytes())
    with LocalEngine(store) as engine:
        size = file.stat().st_size - 4096
        subprocess.run([sys.executable, "-c", spoil.format(size), file], check=True)
        for operation in (listed, stores.tag, stores.load, stores.commit):
            with pytest.raises(StoreError, match="damaged: run imgfs fsck"):
                operation(engine)
        subprocess.run([sys.executable, "-c", restore, file, tmp_path / "good"], check=True)
        stores.load(engine)
        stores.tag(engine)
        assert leftovers(engine) == []
        assert len(engine.images.all()) == 3


# Lost


@pytest.mark.parametrize("is_there", [True, False])
def test_a_lost_database_is_not_replaced_by_an_empty_one(imgfs: Command, is_there: bool) -> None:
    good = (imgfs.store / "imgfs.db").read_bytes()
    (imgfs.store / "imgfs.db").unlink()
    if is_there:
        (imgfs.store / "imgfs.db").touch()
    for command in ("images", "load", "gc"):
        said = refusal(imgfs(command, stdin=stores.APP))
        assert said == (
            f"store {imgfs.store}/imgfs.db: the database is missing or empty, the blobs are there:"
            " put it back, or run imgfs fsck --repair"
        )
    assert (imgfs.store / "imgfs.db").exists() is is_there
    (imgfs.store / "imgfs.db").write_bytes(good)
    assert len(succeeded(imgfs("images", "-q")).lines) == 1


def test_an_empty_database_without_blobs_is_created_anew(tmp_path: Path) -> None:
    (tmp_path / "imgfs.db").touch()
    with LocalEngine(tmp_path) as engine:
        stores.load(engine, stores.BASE)


def test_a_directory_in_place_of_the_database_is_reported(imgfs: Command) -> None:
    (imgfs.store / "imgfs.db").rename(imgfs.store.parent / "kept")
    (imgfs.store / "imgfs.db").mkdir()
    said = refusal(imgfs("images"))
    assert said == (
        f"store {imgfs.store}/imgfs.db: the database cannot be opened: it is a directory"
    )
    (imgfs.store / "imgfs.db").rmdir()
    (imgfs.store.parent / "kept").rename(imgfs.store / "imgfs.db")
    succeeded(imgfs("images"))


DIE = """
import os, signal, sys
from pathlib import Path
from tests.local_engine import LocalEngine
engine = LocalEngine(Path(sys.argv[1]))
engine.tag("base:1", "base:2")
os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.parametrize(("lost", "names"), [("-shm", 2), ("-wal", 1), ("-*", 1)])
def test_a_store_whose_log_files_are_lost_is_as_before_the_last_changes(
    store: Path, lost: str, names: int
) -> None:
    """The changes that were only in the log are lost."""
    done = subprocess.run([sys.executable, "-c", DIE, store], cwd=PROJECT, check=False)
    assert done.returncode == -signal.SIGKILL
    for path in store.glob(f"imgfs.db{lost}"):
        path.unlink()
    with LocalEngine(store) as engine:
        assert len(engine.images.all()) == names
        listed(engine)
        stores.load(engine)


def test_a_database_that_is_moved_away_and_back_works_again(store: Path, tmp_path: Path) -> None:
    file, kept = store / "imgfs.db", tmp_path / "kept"
    with LocalEngine(store) as engine:
        file.rename(kept)
        with pytest.raises(StoreError, match="cannot be opened"):
            stores.tag(engine)
        kept.rename(file)
        stores.tag(engine)
        with closing(sqlite3.connect(file)) as other:
            other.execute("VACUUM INTO ?", (str(kept),))
        stores.remove(engine)
        kept.rename(file)
        for companion in store.glob("imgfs.db-*"):
            companion.unlink()
        stores.remove(engine)
        assert [image.familiar for image in engine.images.all()] == ["base:2"]


# Of another version


def test_a_process_of_the_old_version_cannot_write_after_a_migration(tmp_path: Path) -> None:
    path = tmp_path / "imgfs.db"
    with Database(path, MIGRATIONS[:1]) as old:
        assert old.read("SELECT * FROM images") == []
        with Database(path) as new:
            assert new.read("SELECT * FROM events") == []
            assert old.read("SELECT * FROM images") == []
            with (
                pytest.raises(StoreError, match="written by a newer version"),
                old.transaction() as connection,
            ):
                connection.execute("INSERT INTO leases VALUES ('a', 0, 0, '{}')")
            with new.transaction() as connection:
                connection.execute("DELETE FROM leases")
        assert new.path == old.path
    with pytest.raises(StoreError, match="written by a newer version"):
        Database(path, MIGRATIONS[:1])
    Database(path).close()


def test_a_migration_waits_for_a_writer(tmp_path: Path) -> None:
    """Nothing is changed while a process of an older version holds the lock."""
    path = tmp_path / "imgfs.db"
    with Database(path, MIGRATIONS[:1]) as old, pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "BUSY_SECONDS", 0.05)
        with old.transaction(), pytest.raises(StoreBusy):
            Database(path)
        assert old.read("PRAGMA user_version") == [(1,)]
        Database(path).close()
        assert old.read("PRAGMA user_version") == [(len(MIGRATIONS),)]


def test_an_older_command_refuses_a_newer_database(imgfs: Command) -> None:
    with closing(sqlite3.connect(imgfs.store / "imgfs.db")) as newer:
        newer.execute(f"PRAGMA user_version = {len(MIGRATIONS) + 1}")
        for command in (("images",), ("rm", "base:1"), ("load",)):
            said = refusal(imgfs(*command, stdin=stores.APP))
            assert said.startswith(f"store {imgfs.store}/imgfs.db: it was written by a newer ")
        newer.execute(f"PRAGMA user_version = {len(MIGRATIONS)}")
    succeeded(imgfs("rm", "base:1"))


def test_a_store_that_is_open_refuses_a_newer_database(store: Path) -> None:
    with LocalEngine(store) as engine, closing(sqlite3.connect(store / "imgfs.db")) as newer:
        before = listed(engine)
        newer.execute(f"PRAGMA user_version = {len(MIGRATIONS) + 1}")
        for operation in (stores.load, stores.commit, stores.tag, stores.remove):
            with pytest.raises(StoreError, match="newer version"):
                operation(engine)
        assert listed(engine) == before
        newer.execute(f"PRAGMA user_version = {len(MIGRATIONS)}")
        stores.load(engine)
        assert leftovers(engine) == []

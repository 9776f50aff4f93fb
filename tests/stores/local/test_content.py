from __future__ import annotations

import errno
import fcntl
import json
import os
import shutil
import stat
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.content.blobs import read_blob
from engine.content.protocols import NO_LABELS
from engine.errors import ContentMismatch, DigestMismatch, NotFound, Unavailable
from engine.spec import digest as digests
from engine.stores.local.content import LocalContent
from engine.stores.local.database import Database
from engine.stores.local.writer import LocalWriter
from engine.testing.blobs import content, write_blob
from engine.testing.content import ContentSuite

PROJECT = Path(__file__).parents[3]
DATA = content(1000)
DIGEST = digests.of_bytes(DATA)


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    with Database(tmp_path / "imgfs.db") as database:
        yield database


@pytest.fixture
def store(tmp_path: Path, database: Database) -> LocalContent:
    return LocalContent(tmp_path, database)


@pytest.fixture
def blob(tmp_path: Path) -> Path:
    """Where the file of DIGEST belongs."""
    return tmp_path / "blobs" / "sha256" / DIGEST.encoded


@pytest.fixture
def ingest(tmp_path: Path) -> Path:
    """Where the ingest "a" belongs."""
    return tmp_path / "ingest" / digests.of_bytes(b"a").encoded


def written(store: LocalContent, ref: str, data: bytes) -> LocalWriter:
    writer = store.writer(ref)
    writer.write(data)
    return writer


def is_empty(store: LocalContent) -> bool:
    """Nothing visible, and nothing on the disk."""
    return not any([*store.walk(), *store.files(), *store.statuses()])


class _RolledBack(Exception):
    pass


@contextmanager
def rolled_back(database: Database) -> Iterator[None]:
    """A transaction that fails at its end."""
    with suppress(_RolledBack), database.transaction():
        yield
        raise _RolledBack


class TestLocalContent(ContentSuite):
    """The suite on the store on disk."""


def test_an_open_blob_has_a_descriptor(store: LocalContent) -> None:
    digest = write_blob(store, "a", b"foobar").info.digest
    with store.open(digest) as reader:
        assert reader.fileno() > 2


# The layout


def test_a_blob_on_the_disk(store: LocalContent, blob: Path, tmp_path: Path) -> None:
    write_blob(store, "a", DATA)
    assert blob.read_bytes() == DATA
    assert stat.S_IMODE(blob.stat().st_mode) == 0o444
    assert blob.stat().st_nlink == 1
    for directory in (blob.parent, tmp_path / "blobs", tmp_path / "ingest"):
        assert stat.S_IMODE(directory.stat().st_mode) == 0o700
    assert list((tmp_path / "ingest").iterdir()) == []


def test_an_ingest_on_the_disk(store: LocalContent, ingest: Path) -> None:
    with store.writer("a", 10, DIGEST) as writer:
        writer.write(b"data")
        started_at = writer.status().started_at
    assert sorted(path.name for path in ingest.iterdir()) == ["data", "ref"]
    assert (ingest / "data").read_bytes() == b"data"
    assert stat.S_IMODE(ingest.stat().st_mode) == 0o700
    assert stat.S_IMODE((ingest / "data").stat().st_mode) == 0o600
    assert json.loads((ingest / "ref").read_text()) == {
        "ref": "a",
        "total": 10,
        "expected": DIGEST,
        "started_at": started_at,
    }


@pytest.mark.parametrize("make", [os.mkfifo, Path.mkdir])
def test_something_else_in_a_blob_s_place_is_refused(
    store: LocalContent, make: Callable[[Path], None]
) -> None:
    """Opening a FIFO must not wait for somebody who writes into it."""
    digest = write_blob(store, "a", b"data").info.digest
    path = store.path(digest)
    path.unlink()
    make(path)
    with pytest.raises(ContentMismatch, match="expected a regular file"):
        store.open(digest)


def test_a_store_is_opened_again(store: LocalContent, tmp_path: Path) -> None:
    info = write_blob(store, "a", DATA, labels={"k": "v"}).info
    with Database(tmp_path / "imgfs.db") as database:
        again = LocalContent(tmp_path, database)
        assert list(again.walk()) == [info]
        assert read_blob(again, DIGEST) == DATA


def test_a_link_in_the_place_of_a_blob_is_not_followed(store: LocalContent, blob: Path) -> None:
    write_blob(store, "a", DATA)
    blob.unlink()
    blob.symlink_to("/etc/hostname")
    with pytest.raises(OSError, match="symbolic link") as caught:
        store.open(DIGEST)
    assert caught.value.errno == errno.ELOOP
    assert write_blob(store, "a", DATA).added
    assert not blob.is_symlink()


def test_walk_and_sizes_of_many(store: LocalContent, database: Database) -> None:
    many = sorted(digests.of_bytes(str(i).encode()) for i in range(1203))
    with database.transaction() as connection:
        connection.executemany(
            "INSERT INTO blobs VALUES (?, 7, 0, 0, '{}')", [(digest,) for digest in many]
        )
    assert [info.digest for info in store.walk()] == many
    assert store.sizes([*many, DIGEST, "nonsense"]) == dict.fromkeys(many, 7)
    assert store.sizes([]) == {}


def test_times_come_from_the_clock(tmp_path: Path, database: Database) -> None:
    now = iter([10.0, 11.0, 12.0])
    store = LocalContent(tmp_path, database, clock=lambda: next(now))
    writer = store.writer("a")
    assert writer.status().started_at == 10.0
    assert writer.commit().info.created_at == 11.0
    assert store.update(writer.digest(), {"k": "v"}).updated_at == 12.0
    assert store.info(writer.digest()).created_at == 11.0


# Writing


@settings(max_examples=60, deadline=None)
@given(
    data=st.binary(max_size=4000),
    cuts=st.lists(st.tuples(st.integers(0, 4000), st.booleans()), max_size=8),
    algorithm=st.sampled_from(digests.ALGORITHMS),
)
def test_any_chunking_and_any_pauses(
    data: bytes, cuts: list[tuple[int, bool]], algorithm: str
) -> None:
    with (
        tempfile.TemporaryDirectory() as directory,
        Database(Path(directory) / "imgfs.db") as database,
    ):
        store = LocalContent(Path(directory), database)
        writer = store.writer("a", algorithm=algorithm)
        position = 0
        for cut, pause in [*sorted(cuts), (len(data), False)]:
            writer.write(data[position:cut])
            position = max(position, min(cut, len(data)))
            assert writer.status().offset == position
            if pause:
                writer.close()
                writer = store.writer("a", algorithm=algorithm)
        expected = digests.of_bytes(data, algorithm)
        assert writer.commit(len(data), expected).info.digest == expected
        assert read_blob(store, expected, len(data)) == data


def test_short_writes(store: LocalContent, monkeypatch: pytest.MonkeyPatch) -> None:
    write = os.write
    monkeypatch.setattr(os, "write", lambda fd, data: write(fd, data[:7]))
    writer = written(store, "a", DATA)
    monkeypatch.undo()
    assert writer.commit(1000, DIGEST).added


def test_a_write_that_fails_half_way(store: LocalContent, monkeypatch: pytest.MonkeyPatch) -> None:
    write, room = os.write, [600]

    def limited(descriptor: int, data: memoryview) -> int:
        if not room[0]:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        room[0] -= len(data[: room[0]])
        return write(descriptor, data[: 600 - room[0]])

    writer = store.writer("a")
    with monkeypatch.context() as patch:
        patch.setattr(os, "write", limited)
        with pytest.raises(OSError, match="No space"):
            writer.write(DATA)
    assert writer.status().offset == 600
    assert writer.digest() == digests.of_bytes(DATA[:600])
    writer.write(DATA[600:])
    assert writer.commit(1000, DIGEST).added


def test_a_write_makes_no_copy(store: LocalContent, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[object] = []
    write = os.write

    def watched(descriptor: int, data: memoryview) -> int:
        seen.append(data.obj)
        return write(descriptor, data)

    monkeypatch.setattr(os, "write", watched)
    buffer = bytearray(DATA)
    with store.writer("a") as writer:
        writer.write(memoryview(buffer)[10:])
    assert len(seen) == 1
    assert seen[0] is buffer


def test_a_full_disk(tmp_path: Path) -> None:
    script = """
import errno, os, sys
from pathlib import Path
from engine.content.blobs import read_blob
from engine.testing.blobs import write_blob
from engine.stores.local.content import LocalContent
from engine.stores.local.database import Database
from engine.spec.digest import of_bytes

root = Path(sys.argv[1])
with Database(root / "imgfs.db") as database:
    store = LocalContent(root, database)
    writer = store.writer("a")
    data = bytes(16 << 20)
    try:
        writer.write(data)
    except OSError as error:
        assert error.errno == errno.ENOSPC, error
    offset = writer.status().offset
    assert 0 < offset < len(data)
    assert writer.digest() == of_bytes(data[:offset])
    try:
        write_blob(store, "b", b"x" * 9000)
    except OSError as error:
        assert error.errno == errno.ENOSPC, error
    else:
        raise AssertionError("there was room")
    assert list(store.walk()) == list(store.files()) == []
    writer.abort()
    assert read_blob(store, write_blob(store, "b", b"small").info.digest) == b"small"
"""
    available = shutil.which("unshare") and subprocess.run(
        ["unshare", "-rm", "mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", tmp_path],
        capture_output=True,
        check=False,
    )
    if not available or available.returncode:
        pytest.skip("no file system can be mounted in a namespace of our own")
    mount = 'mount -t tmpfs -o size=4m tmpfs "$1" && exec "$2" -c "$3" "$1"'
    subprocess.run(
        ["unshare", "-rm", "sh", "-c", mount, "sh", tmp_path, sys.executable, script],
        cwd=PROJECT,
        check=True,
        timeout=60,
    )


# Becoming visible


def test_the_order_of_a_commit(
    store: LocalContent,
    database: Database,
    blob: Path,
    ingest: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    events: list[Any] = []
    fsync, rename, fchmod = os.fsync, os.rename, os.fchmod

    def traced_fsync(descriptor: int) -> None:
        fsync(descriptor)
        events.append(("fsync", Path(f"/proc/self/fd/{descriptor}").readlink()))

    def traced_rename(source: Path, target: Path, **options: Any) -> None:
        rename(source, target, **options)
        events.append(("rename", source, target))

    def traced_fchmod(descriptor: int, mode: int) -> None:
        fchmod(descriptor, mode)
        events.append(("fchmod", mode))

    writer = written(store, "a", DATA)
    monkeypatch.setattr(os, "fsync", traced_fsync)
    monkeypatch.setattr(os, "rename", traced_rename)
    monkeypatch.setattr(os, "fchmod", traced_fchmod)
    database.connection.set_trace_callback(lambda sql: events.append(sql.split(" ")[0]))
    database.connection.execute("DROP TRIGGER blobs_insert")
    events.clear()
    writer.commit()
    database.connection.set_trace_callback(None)
    found = [event for event in events if event not in ("SELECT", "PRAGMA")]
    directories = found[5:7]  # are synced at the same time
    assert sorted(directories) == [("fsync", tmp_path / "blobs"), ("fsync", blob.parent)]
    assert found[:5] + found[7:] == [
        ("fchmod", 0o444),
        ("fsync", ingest / "data"),
        "BEGIN",
        ("rename", ingest / "data", blob),
        "INSERT",
        "COMMIT",
    ]


def test_a_batch_syncs_every_directory_once(
    store: LocalContent, monkeypatch: pytest.MonkeyPatch
) -> None:
    fsync = os.fsync
    synced: list[Path] = []

    def traced(descriptor: int) -> None:
        fsync(descriptor)
        synced.append(Path(f"/proc/self/fd/{descriptor}").readlink())

    write_blob(store, "0", b"so that the directory is there")
    writers = [written(store, str(i), content(i)) for i in range(5)]
    monkeypatch.setattr(os, "fsync", traced)
    store.publish([(writer, NO_LABELS) for writer in writers])
    names = [path.name for path in synced]
    assert names[:5] == ["data"] * 5
    assert sorted(names[5:]) == ["blobs", "sha256"]


def test_a_shelf_that_a_dead_process_has_made_is_synced(
    store: LocalContent, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """It may have died between mkdir and fsync."""
    fsync = os.fsync
    synced: list[Path] = []

    def traced(descriptor: int) -> None:
        fsync(descriptor)
        synced.append(Path(f"/proc/self/fd/{descriptor}").readlink())

    (tmp_path / "blobs" / "sha256").mkdir()
    writer = written(store, "a", DATA)
    monkeypatch.setattr(os, "fsync", traced)
    writer.commit()
    assert tmp_path / "blobs" in synced


def test_what_is_stored_is_not_synced_again(
    store: LocalContent, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_blob(store, "a", DATA)
    writer = written(store, "b", DATA)
    monkeypatch.delattr(os, "fsync")
    assert not writer.commit().added


def test_prepare_leaves_nothing_slow_to_publish(
    store: LocalContent, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    writer = written(store, "a", DATA)
    store.prepare([writer])
    synced: list[Path] = []
    monkeypatch.setattr(
        os, "fsync", lambda fd: synced.append(Path(f"/proc/self/fd/{fd}").readlink())
    )
    with database.transaction():
        store.publish([(writer, NO_LABELS)])
    assert all(path.is_dir() for path in synced)


@pytest.mark.parametrize("change", [LocalWriter.write, lambda writer, _: writer.truncate(500)])
def test_a_change_after_prepare_is_synced(
    store: LocalContent,
    change: Callable[[LocalWriter, bytes], object],
    ingest: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    writer = written(store, "a", DATA)
    store.prepare([writer])
    change(writer, b"more")
    synced: list[Path] = []
    monkeypatch.setattr(
        os, "fsync", lambda fd: synced.append(Path(f"/proc/self/fd/{fd}").readlink())
    )
    assert writer.commit().added
    assert synced[0] == ingest / "data"


def test_a_batch(store: LocalContent) -> None:
    write_blob(store, "there", b"there")
    datas = [b"one", b"there", b"two", b"one", b""]
    writers = [written(store, f"ref {i}", data) for i, data in enumerate(datas)]
    committed = store.publish(
        [(writer, {"n": data.decode()}) for writer, data in zip(writers, datas, strict=True)]
    )
    assert [one.added for one in committed] == [True, False, True, False, True]
    assert [one.info.digest for one in committed] == [digests.of_bytes(data) for data in datas]
    assert all(store.info(one.info.digest) == one.info for one in committed)
    assert store.statuses() == []
    assert store.publish([]) == []


def test_a_batch_with_one_bad_blob(store: LocalContent) -> None:
    good, bad = written(store, "good", b"good"), store.writer("bad", expected=DIGEST)
    bad.write(b"bad")
    with pytest.raises(DigestMismatch):
        store.publish([(good, NO_LABELS), (bad, NO_LABELS)])
    assert is_empty(store)


def test_a_batch_with_an_ended_writer(store: LocalContent) -> None:
    good, ended = written(store, "good", b"good"), written(store, "ended", b"ended")
    ended.commit()
    with pytest.raises(ValueError, match="has ended"):
        store.publish([(good, NO_LABELS), (ended, NO_LABELS)])
    assert list(store.files()) == [ended.digest()]
    assert store.statuses() == []


def test_the_data_of_an_ingest_is_tampered_with(store: LocalContent, ingest: Path) -> None:
    writer = written(store, "a", DATA)
    os.truncate(ingest / "data", 999)
    with pytest.raises(Exception, match="unexpected size: expected 1000, found 999"):
        writer.commit()
    assert list(store.files()) == []


@pytest.mark.parametrize("call", ["fsync", "rename"])
def test_a_disk_that_fails(store: LocalContent, call: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    writers = [written(store, str(i), content(i)) for i in range(3)]
    with monkeypatch.context() as patch:
        patch.setattr(os, call, fail)
        with pytest.raises(OSError, match="Input/output error"):
            store.publish([(writer, NO_LABELS) for writer in writers])
    assert is_empty(store)
    assert write_blob(store, "0", content(0)).added


# Rolling back


def test_a_batch_that_fails_in_the_middle(
    store: LocalContent, blob: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rename = os.rename

    def fail_at_blob(source: Path, target: Path, **options: Any) -> None:
        if target == blob:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        rename(source, target, **options)

    old = write_blob(store, "old", b"old", labels={"k": "old"}).info
    writers = [written(store, str(i), data) for i, data in enumerate([b"new", b"old", DATA])]
    monkeypatch.setattr(os, "rename", fail_at_blob)
    with pytest.raises(OSError, match="Input/output error"):
        store.publish([(writer, {"k": "new"}) for writer in writers])
    assert list(store.walk()) == [old]
    assert list(store.files()) == [old.digest]
    assert store.statuses() == []


def test_the_outer_transaction_takes_all_back(store: LocalContent, database: Database) -> None:
    old = write_blob(store, "old", b"old").info
    writers = [
        (written(store, str(i), data), {"k": "v"}) for i, data in enumerate([b"new", b"old"])
    ]
    with rolled_back(database):
        committed = store.publish(writers)
        assert [one.added for one in committed] == [True, False]
        assert read_blob(store, committed[0].info.digest) == b"new"
    assert list(store.walk()) == [old]
    assert list(store.files()) == [old.digest]


def test_the_outer_transaction_goes_on_without(store: LocalContent, database: Database) -> None:
    with database.transaction():
        with rolled_back(database):
            write_blob(store, "a", b"lost")
        kept = write_blob(store, "b", b"kept").info
    assert list(store.walk()) == [kept]
    assert list(store.files()) == [kept.digest]


def test_nobody_else_sees_a_batch_before_its_end(
    store: LocalContent, database: Database, tmp_path: Path
) -> None:
    with Database(tmp_path / "imgfs.db") as other:
        elsewhere = LocalContent(tmp_path, other)
        with database.transaction():
            write_blob(store, "a", DATA)
            assert store.exists(DIGEST)
            assert not elsewhere.exists(DIGEST)
            with pytest.raises(NotFound):
                elsewhere.open(DIGEST)
        assert elsewhere.exists(DIGEST)


def test_a_full_database(store: LocalContent, database: Database) -> None:
    pages = database.read("PRAGMA page_count")[0][0]
    database.read(f"PRAGMA max_page_count = {pages}")
    writer = written(store, "a", DATA)
    with pytest.raises(OSError, match="No space left") as caught:
        writer.commit(labels={"k": "v" * 1_000_000})
    assert caught.value.errno == errno.ENOSPC
    assert is_empty(store)


def test_what_somebody_else_has_stored_meanwhile_is_not_taken_back(
    store: LocalContent, database: Database, tmp_path: Path
) -> None:
    """Between the rollback and the tidying the lock is free."""
    with Database(tmp_path / "imgfs.db") as other:
        elsewhere = LocalContent(tmp_path, other)
        added: list[bool] = []
        with rolled_back(database):
            database.after_transaction(lambda: added.append(write_blob(elsewhere, "b", DATA).added))
            write_blob(store, "a", DATA)
        assert added == [True]
        assert read_blob(store, DIGEST) == DATA


# Going


def test_the_row_goes_before_the_file(
    store: LocalContent, blob: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_blob(store, "a", DATA)
    rename = os.rename
    seen: list[bool] = []

    def watched(path: str, target: str) -> None:
        if path == str(blob):
            with Database(tmp_path / "imgfs.db") as other:
                seen.append(LocalContent(tmp_path, other).exists(DIGEST))
        rename(path, target)

    monkeypatch.setattr(os, "rename", watched)
    store.delete(DIGEST)
    assert seen == [False]
    assert not blob.exists()


def test_a_deletion_that_is_rolled_back(store: LocalContent, database: Database) -> None:
    write_blob(store, "a", DATA)
    with rolled_back(database):
        store.delete(DIGEST)
    assert read_blob(store, DIGEST) == DATA


def test_a_blob_deleted_and_stored_in_one_transaction(
    store: LocalContent, database: Database
) -> None:
    write_blob(store, "a", DATA)
    with database.transaction():
        store.delete(DIGEST)
        assert write_blob(store, "b", DATA).added
    assert read_blob(store, DIGEST) == DATA


def test_a_file_that_cannot_go_waits_for_gc(
    store: LocalContent, blob: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise PermissionError(errno.EPERM, os.strerror(errno.EPERM))

    write_blob(store, "a", DATA)
    with monkeypatch.context() as patch:
        patch.setattr(os, "rename", fail)
        store.delete(DIGEST)
    assert blob.exists()
    assert store.reclaim(store.files()) == [DIGEST]
    assert not blob.exists()


def test_reclaim_spares_what_has_a_row(store: LocalContent, blob: Path) -> None:
    write_blob(store, "a", DATA)
    stray = blob.with_name(digests.of_bytes(b"stray").encoded)
    stray.write_bytes(b"stray")
    stray.with_name("not a digest").write_bytes(b"")
    assert list(store.files()) == sorted([DIGEST, digests.of_bytes(b"stray")])
    assert len(store.reclaim([*store.files(), digests.of_bytes(b"nowhere")])) == 1
    assert store.reclaim(store.files()) == []
    assert sorted(path.name for path in blob.parent.iterdir()) == [blob.name, "not a digest"]


def test_reclaim_refuses_to_guess(store: LocalContent, database: Database) -> None:
    with database.transaction(), pytest.raises(RuntimeError):
        store.reclaim([DIGEST])


# Between two steps


def just_before_the_next_transaction(
    database: Database, monkeypatch: pytest.MonkeyPatch, act: Callable[[], object]
) -> None:
    transaction = database.transaction

    def preceded() -> Any:
        monkeypatch.undo()
        act()
        return transaction()

    monkeypatch.setattr(database, "transaction", preceded)


def test_a_blob_that_goes_before_the_commit_that_found_it(
    store: LocalContent, database: Database, blob: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_blob(store, "a", DATA)
    just_before_the_next_transaction(database, monkeypatch, lambda: store.delete(DIGEST))
    assert write_blob(store, "b", DATA).added
    assert read_blob(store, DIGEST) == DATA
    assert stat.S_IMODE(blob.stat().st_mode) == 0o444


def test_a_blob_that_comes_before_the_commit_that_missed_it(
    store: LocalContent, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    writer = written(store, "a", DATA)
    just_before_the_next_transaction(
        database, monkeypatch, lambda: write_blob(store, "b", DATA, labels={"k": "v"})
    )
    committed = writer.commit()
    assert not committed.added
    assert committed.info.labels == {"k": "v"}


def test_a_blob_that_comes_before_its_file_is_reclaimed(
    store: LocalContent, database: Database, blob: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    blob.parent.mkdir(mode=0o700)
    blob.write_bytes(DATA)
    just_before_the_next_transaction(database, monkeypatch, lambda: write_blob(store, "a", DATA))
    assert store.reclaim([DIGEST]) == []
    assert read_blob(store, DIGEST) == DATA


@pytest.mark.parametrize("end", [LocalWriter.commit, LocalWriter.abort])
def test_an_ingest_that_ends_before_it_is_locked(
    store: LocalContent, end: Callable[[LocalWriter], object], monkeypatch: pytest.MonkeyPatch
) -> None:
    first = written(store, "a", DATA)
    flock = fcntl.flock

    def late(descriptor: int, operation: int) -> None:
        monkeypatch.undo()
        end(first)
        flock(descriptor, operation)

    monkeypatch.setattr(fcntl, "flock", late)
    second = store.writer("a")
    assert second.status().offset == 0
    second.write(b"second")
    assert store.exists(DIGEST) is (end is LocalWriter.commit)
    assert second.commit().info.digest == digests.of_bytes(b"second")
    if store.exists(DIGEST):
        assert read_blob(store, DIGEST) == DATA


# After a crash


def test_a_file_without_a_row_is_replaced(store: LocalContent, blob: Path) -> None:
    blob.parent.mkdir(mode=0o700)
    blob.write_bytes(b"torn")
    with pytest.raises(NotFound):
        store.open(DIGEST)
    assert write_blob(store, "a", DATA).added
    assert read_blob(store, DIGEST) == DATA


def shorten(path: Path) -> None:
    path.chmod(0o600)
    os.truncate(path, 10)


@pytest.mark.parametrize("damage", [Path.unlink, shorten])
def test_a_row_without_its_file_is_healed(
    store: LocalContent, blob: Path, damage: Callable[[Path], None]
) -> None:
    write_blob(store, "a", DATA, labels={"k": "v"})
    damage(blob)
    assert not store.exists(DIGEST)
    healed = write_blob(store, "b", DATA)
    assert healed.added
    assert healed.info.labels == {"k": "v"}
    assert store.exists(DIGEST)
    assert read_blob(store, DIGEST) == DATA


def test_a_row_without_its_file(store: LocalContent, blob: Path) -> None:
    write_blob(store, "a", DATA)
    blob.unlink()
    with pytest.raises(NotFound):
        store.open(DIGEST)
    assert store.sizes([DIGEST]) == {DIGEST: 1000}
    store.delete(DIGEST)


@pytest.mark.parametrize("text", [None, "", "{}", "[]", '{"ref": 1', "\0" * 50])
def test_a_torn_ingest(store: LocalContent, ingest: Path, text: str | None) -> None:
    store.writer("a").close()
    (ingest / "data").write_bytes(DATA[:10])
    (ingest / "ref").unlink()
    if text is not None:
        (ingest / "ref").write_text(text)
    assert store.statuses() == []
    with pytest.raises(NotFound):
        store.status("a")
    with store.writer("a", 1000, DIGEST) as writer:
        assert writer.status().offset == 10
        writer.write(DATA[10:])
        assert writer.commit().added


def test_an_ingest_without_data(store: LocalContent, ingest: Path) -> None:
    store.writer("a", 7).close()
    (ingest / "data").unlink()
    assert store.statuses() == []
    with store.writer("a") as writer:
        assert (writer.status().offset, writer.status().total) == (0, 7)
    store.abort("a")
    assert not ingest.exists()


def test_an_ingest_left_read_only(
    store: LocalContent, ingest: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with written(store, "a", DATA) as writer:
        store.prepare([writer])
    assert stat.S_IMODE((ingest / "data").stat().st_mode) == 0o444
    real_open = os.open

    def open_as_a_user(path: Path, flags: int, mode: int = 0o777) -> int:
        if flags & os.O_RDWR and path.exists() and not path.stat().st_mode & 0o200:
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
        return real_open(path, flags, mode)

    with monkeypatch.context() as patch:
        patch.setattr(os, "open", open_as_a_user)
        again = store.writer("a")
    assert again.commit(1000, DIGEST).added


def test_what_writers_have_abandoned(tmp_path: Path, database: Database, ingest: Path) -> None:
    now = [0.0]
    store = LocalContent(tmp_path, database, clock=lambda: now[0])
    with written(store, "a", DATA) as paused:
        started = paused.status().updated_at
    held = written(store, "held", DATA)
    with store.unnamed_writer() as dead:
        dead.write(b"abc")
    unnamed = store.unnamed_writer()
    (tmp_path / "ingest" / ("0" * 64)).mkdir()
    (tmp_path / "ingest" / "stray").write_bytes(b"12345")
    now[0] = started + 50
    assert sorted(left.size for left in store.ingests.abandoned(3600)) == [0, 3, 5]
    now[0] = started + 4000
    left = store.ingests.abandoned(3600)
    assert sorted(each.size for each in left) == [0, 3, 5, 1000]
    assert [each.reason for each in left if each.size == 1000] == [
        "nobody has resumed a for 3600 s"
    ]
    assert all(store.ingests.remove(each.name) for each in left)
    assert not ingest.exists()
    assert not any(store.ingests.remove(path.name) for path in (tmp_path / "ingest").iterdir())
    assert [status.ref for status in store.statuses()] == ["held"]
    assert held.commit().added
    unnamed.write(b"new")
    assert unnamed.commit(3).added
    assert os.listdir(tmp_path / "ingest") == []


def test_close_removes_unnamed_ingests_that_nothing_ended(
    store: LocalContent, tmp_path: Path
) -> None:
    """A signal may come after the files are made, and before anything refers to them."""
    store.unnamed_writer().write(b"lost")
    with written(store, "a", DATA):
        store.close()
        assert len(os.listdir(tmp_path / "ingest")) == 1
    assert [status.ref for status in store.statuses()] == ["a"]


def test_an_abandoned_ingest_that_is_resumed(store: LocalContent) -> None:
    with written(store, "a", DATA):
        pass
    (left,) = store.ingests.abandoned(0)
    with store.writer("a"):
        assert not store.ingests.remove(left.name)
    assert store.ingests.remove(left.name)
    assert not store.ingests.remove(left.name)


# Other processes

PRELUDE = """
import os, signal, sys
from pathlib import Path
from engine.content.blobs import *
from engine.testing.blobs import write_blob
from engine.content.protocols import *
from engine.stores.local.content import LocalContent
from engine.stores.local.database import Database
from engine.errors import Unavailable
root = Path(sys.argv[1])
store = LocalContent(root, Database(root / "imgfs.db"))
data = bytes(range(256)) * 4000
"""
CHILD_DATA = bytes(range(256)) * 4000
CHILD_DIGEST = digests.of_bytes(CHILD_DATA)


Start = Callable[[str], "subprocess.Popen[str]"]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Return a function that runs a script in a process, which ends with the test at the latest."""
    with ExitStack() as children:

        def run(script: str) -> subprocess.Popen[str]:
            child = subprocess.Popen(
                [sys.executable, "-c", PRELUDE + script, str(tmp_path)],
                cwd=PROJECT,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            )
            children.enter_context(child)
            children.callback(child.kill)
            return child

        yield run


def finish(child: subprocess.Popen[str]) -> tuple[int, str]:
    output, _ = child.communicate("go\n", timeout=60)
    return child.returncode, output


def test_a_writer_that_is_killed(store: LocalContent, start: Start) -> None:
    child = start(
        """
writer = store.writer("a", len(data))
writer.write(data[:1000])
print("written", flush=True)
sys.stdin.readline()
writer.write(data[1000:2000])
os.kill(os.getpid(), signal.SIGKILL)
""",
    )
    assert child.stdout is not None
    assert child.stdout.readline() == "written\n"
    with pytest.raises(Unavailable):
        store.writer("a")
    assert store.status("a").offset == 1000
    assert finish(child) == (-9, "")
    with store.writer("a") as writer:
        assert writer.status().offset == 2000
        writer.write(CHILD_DATA[2000:])
        assert writer.commit().info.digest == CHILD_DIGEST


KILL_AT_SYNC_OF = """
fsync = os.fsync
def kill(descriptor):
    fsync(descriptor)
    if os.readlink(f"/proc/self/fd/{{descriptor}}").endswith("{name}"):
        os.kill(os.getpid(), signal.SIGKILL)
writer = store.writer("a", len(data))
writer.write(data)
os.fsync = kill
writer.commit()
"""


def test_a_commit_that_is_killed_before_its_rename(store: LocalContent, start: Start) -> None:
    assert finish(start(KILL_AT_SYNC_OF.format(name="/data"))) == (-9, "")
    assert list(store.files()) == []
    assert store.status("a").offset == len(CHILD_DATA)
    assert store.writer("a").commit(expected=CHILD_DIGEST).added


@pytest.mark.parametrize("again", [False, True])
def test_a_commit_that_is_killed_after_its_rename(
    store: LocalContent, start: Start, again: bool
) -> None:
    assert finish(start(KILL_AT_SYNC_OF.format(name="/sha256"))) == (-9, "")
    assert list(store.files()) == [CHILD_DIGEST]
    assert list(store.walk()) == []
    assert store.statuses() == []
    if again:
        assert write_blob(store, "a", CHILD_DATA).added
    assert store.reclaim(store.files()) == ([] if again else [CHILD_DIGEST])
    assert store.exists(CHILD_DIGEST) is again


def test_a_deletion_that_is_killed_before_the_file_goes(store: LocalContent, start: Start) -> None:
    write_blob(store, "a", DATA)
    child = start(
        f"""
os.rename = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
store.delete("{DIGEST}")
""",
    )
    assert finish(child) == (-9, "")
    assert not store.exists(DIGEST)
    assert store.reclaim(store.files()) == [DIGEST]


def test_processes_race_for_a_digest(store: LocalContent, start: Start) -> None:
    script = """
print("ready", flush=True)
sys.stdin.readline()
print([write_blob(store, f"{os.getpid()} {i}", data + bytes([i])).added for i in range(20)])
"""
    outputs = race(start, [script, script])
    added = [json.loads(output.lower()) for output in outputs]
    assert [sum(pair) for pair in zip(*added, strict=True)] == [1] * 20
    assert len(list(store.walk())) == len(list(store.files())) == 20
    assert store.statuses() == []


def test_processes_race_for_a_ref(store: LocalContent, start: Start) -> None:
    script = """
print("ready", flush=True)
sys.stdin.readline()
done = 0
while done < 30:
    try:
        write_blob(store, "ref", f"{os.getpid()} {done}".encode())
        done += 1
    except Unavailable:
        pass
print(os.getpid())
"""
    pids = [output.strip() for output in race(start, [script, script])]
    expected = {digests.of_bytes(f"{pid} {i}".encode()) for pid in pids for i in range(30)}
    assert {info.digest for info in store.walk()} == set(store.files()) == expected
    assert store.statuses() == []


def test_processes_store_and_delete_one_digest(store: LocalContent, start: Start) -> None:
    put = """
print("ready", flush=True)
sys.stdin.readline()
for i in range(60):
    write_blob(store, str(os.getpid()), data)
"""
    delete = f"""
from engine.errors import NotFound
print("ready", flush=True)
sys.stdin.readline()
for i in range(200):
    try:
        store.delete("{CHILD_DIGEST}")
    except NotFound:
        pass
    store.reclaim(store.files())
"""
    race(start, [put, delete])
    assert list(store.files()) == [
        info.digest for info in store.walk() if store.exists(info.digest)
    ]
    write_blob(store, "last", CHILD_DATA)
    assert read_blob(store, CHILD_DIGEST) == CHILD_DATA


def race(start: Start, scripts: list[str]) -> list[str]:
    """Let processes go at once when all are ready; what each has written."""
    children = [start(script) for script in scripts]
    for child in children:
        assert child.stdout is not None
        assert child.stdout.readline() == "ready\n"
    for child in children:
        assert child.stdin is not None
        child.stdin.write("go\n")
        child.stdin.flush()
    results = [child.communicate(timeout=120)[0] for child in children]
    assert [child.returncode for child in children] == [0] * len(children)
    return results

"""`imgfs fsck --repair` restores a store whose database is lost or damaged."""

from collections.abc import Callable
from pathlib import Path

import pytest

from engine.stores.local import rebuild
from engine.stores.local.fsck.problem import Problem
from engine.stores.local.fsck.repair import repair
from engine.stores.local.store import LocalStore
from imgfs.cli import fsck as checking
from tests import archives
from tests.archives import ImageParts
from tests.cli.command import Command, refusal, succeeded
from tests.local_engine import LocalEngine

APP, OTHER = ImageParts(), ImageParts(layers=[archives.layer("other")])
ARCHIVE = archives.docker_archive((APP, ["app:1", "app:2"]), (OTHER, ["other:1"]))


@pytest.fixture
def imgfs(tmp_path: Path) -> Command:
    command = Command(tmp_path / "store")
    succeeded(command("load", stdin=ARCHIVE))
    with LocalEngine(command.store) as engine:
        engine.database.connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    for companion in ("imgfs.db-wal", "imgfs.db-shm"):
        (command.store / companion).unlink(missing_ok=True)
    return command


def overwrite(path: Path) -> None:
    path.write_bytes(b"no database at all" * 500)


def empty(path: Path) -> None:
    path.write_bytes(b"")


def damage_the_schema(path: Path) -> None:
    """Damage the first page behind its header, where the schema is."""
    data = bytearray(path.read_bytes())
    data[100:4096] = b"x" * (4096 - 100)
    path.write_bytes(data)


@pytest.mark.parametrize("damage", [Path.unlink, overwrite, empty, damage_the_schema])
def test_fsck_finds_the_images_of_a_lost_database(
    imgfs: Command, damage: Callable[[Path], None]
) -> None:
    targets = {image["digest"] for image in succeeded(imgfs("images", "--format", "json")).json}
    before = (imgfs.store / "imgfs.db").read_bytes()
    damage(imgfs.store / "imgfs.db")
    failed = imgfs("fsck")
    assert failed.status == 1
    assert b"run imgfs fsck --repair" in failed.err
    assert len(failed.err.splitlines()) == 1
    repaired = imgfs("fsck", "--repair")
    assert repaired.status == 0, repaired
    assert len(repaired.err.splitlines()) == 1
    assert {i["digest"] for i in succeeded(imgfs("images", "--format", "json")).json} == targets
    succeeded(imgfs("fsck", "--deep"))
    assert succeeded(imgfs("gc")).lines == ["freed 0B"]
    succeeded(imgfs("load", stdin=ARCHIVE))
    assert [line.split()[0] for line in succeeded(imgfs("images")).lines[1:]] == [
        "app",
        "app",
        "other",
    ]
    if damage is not Path.unlink:
        (kept,) = (imgfs.store / "quarantine").glob("imgfs.db-????????")
        assert kept.read_bytes() != before


def damage_the_blobs(imgfs: Command) -> None:
    """Damage the table of blobs, so that the names can be read."""
    database = imgfs.store / "imgfs.db"
    with LocalEngine(imgfs.store) as engine:
        ((page,),) = engine.database.read("SELECT rootpage FROM sqlite_master WHERE name = 'blobs'")
        engine.database.connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    data = bytearray(database.read_bytes())
    data[(page - 1) * 4096 : page * 4096] = b"x" * 4096
    database.write_bytes(data)


def test_fsck_keeps_the_names_that_are_readable(imgfs: Command) -> None:
    """All names must be as they were."""
    listed = succeeded(imgfs("images", "--format", "json")).json
    damage_the_blobs(imgfs)
    repaired = imgfs("fsck", "--repair")
    assert repaired.status == 0, repaired
    assert [i["name"] for i in succeeded(imgfs("images", "--format", "json")).json] == [
        i["name"] for i in listed
    ]
    succeeded(imgfs("fsck", "--deep"))


@pytest.mark.parametrize("done", [0, 1, 5, 7])
def test_fsck_goes_on_where_it_was_interrupted(
    imgfs: Command, monkeypatch: pytest.MonkeyPatch, done: int
) -> None:
    listed = succeeded(imgfs("images", "--format", "json")).json
    damage_the_blobs(imgfs)
    remaining = iter(range(done))

    def interrupted(store: LocalStore, problem: Problem) -> str:
        if next(remaining, None) is None:
            raise KeyboardInterrupt
        return repair(store, problem)

    monkeypatch.setattr(checking, "repair", interrupted)
    with pytest.raises(KeyboardInterrupt):
        checking.FSCK.call("imgfs fsck", ["--repair"], str(imgfs.store))
    assert "is being rebuilt" in refusal(imgfs("gc"))
    assert "is being rebuilt" in refusal(imgfs("fsck"))
    succeeded(imgfs("fsck", "--repair"))
    assert [i["name"] for i in succeeded(imgfs("images", "--format", "json")).json] == [
        i["name"] for i in listed
    ]
    assert succeeded(imgfs("gc")).lines == ["freed 0B"]
    succeeded(imgfs("fsck", "--deep"))


STEPS = {
    "replace_database": checking,
    "begin": rebuild,
    "repair": checking,
    "restore_names": checking,
}


@pytest.mark.parametrize("step", STEPS)
def test_one_repair_at_a_time(imgfs: Command, monkeypatch: pytest.MonkeyPatch, step: str) -> None:
    """Another one would replace the new database, or wait for the lock of the first one."""
    listed = succeeded(imgfs("images", "--format", "json")).json
    damage_the_blobs(imgfs)
    module, refused = STEPS[step], []
    original = getattr(module, step)

    def late(*arguments: object) -> object:
        monkeypatch.setattr(module, step, original)
        refused.append(refusal(imgfs("fsck", "--repair")))
        return original(*arguments)

    monkeypatch.setattr(module, step, late)
    checking.FSCK.call("imgfs fsck", ["--repair"], str(imgfs.store))
    assert refused == [
        f"store {imgfs.store}: another imgfs fsck --repair is at work; let it come to its end"
    ]
    assert [i["name"] for i in succeeded(imgfs("images", "--format", "json")).json] == [
        i["name"] for i in listed
    ]
    assert succeeded(imgfs("gc")).lines == ["freed 0B"]
    succeeded(imgfs("fsck", "--deep", "--repair"))


def test_a_directory_that_is_no_store_gets_no_lock(imgfs: Command, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "file").touch()
    assert "is not an imgfs store" in refusal(
        imgfs("--store", tmp_path / "other", "fsck", "--repair")
    )
    assert [path.name for path in (tmp_path / "other").iterdir()] == ["file"]

"""Tests of the commands `imgfs gc` and `imgfs fsck`."""

from pathlib import Path

import pytest

from engine.stores.local.fsck.problem import Problem
from engine.stores.local.fsck.repair import repair
from engine.stores.local.store import LocalStore
from imgfs.cli import fsck as checking
from tests import archives
from tests.archives import ImageParts
from tests.cli.command import Command, succeeded

APP = ImageParts()
ARCHIVE = archives.docker_archive((APP, ["app:1"]))
LAYER = archives.digest(APP.layers[0])


def layer_file(imgfs: Command) -> Path:
    return imgfs.store / "blobs" / LAYER.replace(":", "/")


@pytest.fixture(autouse=True)
def _loaded(imgfs: Command) -> None:
    succeeded(imgfs("load", stdin=ARCHIVE))


def test_gc_without_garbage_prints_nothing(imgfs: Command) -> None:
    assert succeeded(imgfs("gc")).lines == ["freed 0B"]
    assert succeeded(imgfs("gc", "-q")).lines == []
    assert succeeded(imgfs("gc", "--format", "json")).json == {"removed": [], "freed": 0}


def test_gc_removes_garbage(imgfs: Command) -> None:
    succeeded(imgfs("rm", "app:1"))
    planned = succeeded(imgfs("gc", "--dry-run")).lines
    assert layer_file(imgfs).exists()
    assert planned[-1].startswith("would free ")
    removed = succeeded(imgfs("gc")).lines
    assert not layer_file(imgfs).exists()
    assert [line.replace("would remove", "removed") for line in planned[:-1]] == removed[:-1]
    assert removed[-1] == planned[-1].replace("would free", "freed")
    assert any(line.startswith(f"removed blob {LAYER} (") for line in removed)


def test_gc_prints_json(imgfs: Command) -> None:
    succeeded(imgfs("rm", "app:1"))
    planned = succeeded(imgfs("gc", "-n", "--format", "json")).json
    done = succeeded(imgfs("gc", "--format", "json")).json
    assert done == planned
    assert done["freed"] == sum(one["size"] for one in done["removed"])
    assert {one["kind"] for one in done["removed"]} == {"blob"}


def test_fsck_finds_no_problem_in_a_good_store(imgfs: Command) -> None:
    assert succeeded(imgfs("fsck")).lines == ["nothing is wrong"]
    assert succeeded(imgfs("fsck", "--deep", "--repair")).lines == ["nothing is wrong"]
    assert succeeded(imgfs("fsck", "-q")).lines == []
    assert succeeded(imgfs("fsck", "--format", "json")).json == {"problems": [], "damaged": []}


def test_fsck_reports_damage(imgfs: Command) -> None:
    layer_file(imgfs).unlink()
    done = imgfs("fsck")
    assert (done.status, done.err) == (1, b"")
    assert done.lines == [
        f"lost blob {LAYER}: its file is missing (in app:1)",
        "image app:1 has lost something: run imgfs fsck --repair, then load it again",
        "1 problem, 0 repaired",
    ]
    done = imgfs("fsck", "--repair")
    assert done.status == 1
    assert done.lines[0] == f"lost blob {LAYER}: its file is missing (in app:1): dropped its row"
    assert "image app:1 has lost something: load it again" in done.lines
    assert imgfs("fsck").status == 1
    succeeded(imgfs("load", stdin=ARCHIVE))
    succeeded(imgfs("fsck", "--deep"))


def test_what_fsck_says_helps_against_a_damaged_blob(imgfs: Command) -> None:
    """A load takes a blob of the right size for the right one, until the repair has moved it."""
    layer_file(imgfs).chmod(0o600)
    layer_file(imgfs).write_bytes(APP.layers[0][::-1])
    assert "image app:1 has lost something: run imgfs fsck --repair, then load it again" in (
        imgfs("fsck").lines
    )
    assert imgfs("fsck", "--repair").status == 1
    succeeded(imgfs("load", stdin=ARCHIVE))
    succeeded(imgfs("fsck"))


def test_fsck_succeeds_if_everything_is_repaired(imgfs: Command) -> None:
    layer_file(imgfs).chmod(0o666)
    assert imgfs("fsck", "-q").status == 1
    assert succeeded(imgfs("fsck", "--repair")).lines == [
        f"mode {LAYER}: expected 0444, found 0666 (in app:1): set to 0444",
        "1 problem, 1 repaired",
    ]


def test_fsck_blames_no_image_that_is_whole_again(
    imgfs: Command, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The archive is loaded between the check and the repair."""
    layer_file(imgfs).unlink()

    def late(store: LocalStore, problem: Problem) -> str:
        succeeded(imgfs("load", stdin=ARCHIVE))
        return repair(store, problem)

    monkeypatch.setattr(checking, "repair", late)
    checking.FSCK.call("imgfs fsck", ["--repair"], str(imgfs.store))
    assert capsys.readouterr().out.splitlines() == [
        f"lost blob {LAYER}: its file is missing (in app:1): no longer so",
        "1 problem, 1 repaired",
    ]
    succeeded(imgfs("fsck"))


def test_garbage_is_no_failure(imgfs: Command) -> None:
    layer_file(imgfs).with_name("tmp").touch()
    lines = succeeded(imgfs("fsck")).lines
    assert lines == [
        f"stray file {layer_file(imgfs).with_name('tmp')}: it is called like no blob",
        "1 problem, 0 repaired",
    ]


def test_fsck_prints_json(imgfs: Command) -> None:
    layer_file(imgfs).unlink()
    done = imgfs("fsck", "--format", "json")
    assert done.status == 1
    assert done.json == {
        "problems": [
            {
                "kind": "lost blob",
                "subject": LAYER,
                "text": "its file is missing",
                "images": ["app:1"],
                "repaired": "",
            }
        ],
        "damaged": ["app:1"],
    }

"""The store that a command chooses, and errors about stores that cannot be used."""

import os
import sqlite3
import subprocess
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from imgfs.cli import info as information
from imgfs.cli.support.common import store_path
from tests import archives
from tests.archives import ImageParts
from tests.cli.command import Command, Done, refusal, succeeded
from tests.mounts import IMGFS

ARCHIVE = archives.docker_archive((ImageParts(), ["app:1"]))


def test_the_environment_names_the_store(imgfs: Command) -> None:
    done = imgfs("info", "--format", "json")  # stderr may name another mount that hangs
    assert (done.status, done.json["store"]) == (0, str(imgfs.store))


@pytest.mark.parametrize("order", [["--store", "{}", "info"], ["info", "--store", "{}"]])
def test_an_option_overrides_the_environment(
    imgfs: Command, tmp_path: Path, order: list[str]
) -> None:
    other = tmp_path / "other"
    succeeded(imgfs("load", "--store", other, stdin=ARCHIVE))
    done = imgfs(*(word.format(other) for word in order), "--format", "json")
    assert (done.status, done.json["store"], done.json["images"]) == (0, str(other), 1)
    assert not imgfs.store.exists()


def test_the_option_after_the_command_overrides_the_one_before(
    tmp_path: Path, inside: Callable[..., Done], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(information, "mountpoints", list)
    done = inside("info", "--store", tmp_path / "nearer", "--format", "json")
    assert succeeded(done).json["store"] == str(tmp_path / "nearer")


def test_a_relative_store_is_below_the_working_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert store_path("a/b") == tmp_path / "a/b"
    monkeypatch.setenv("IMGFS_STORE", "c")
    assert store_path(None) == tmp_path / "c"


# -- where there is none yet ----------------------------------------------------------------------


def empty(store: Path) -> None:
    store.mkdir(mode=0o755)


def of_a_disk(store: Path) -> None:
    (store / "lost+found").mkdir(parents=True)


def begun(store: Path) -> None:
    store.mkdir(mode=0o755)
    (store / "version").touch()


def missing(_store: Path) -> None:
    """Create nothing."""


NONE_YET = [missing, empty, of_a_disk, begun]


def tree(path: Path) -> list[tuple[str, int, bytes]]:
    """Return the names, modes and bytes of a directory and everything below it."""
    return [
        (str(p), p.lstat().st_mode, p.read_bytes() if p.is_file() else b"")
        for p in (path, *sorted(path.rglob("*")))
    ]


@pytest.mark.parametrize("prepare", NONE_YET)
def test_commands_that_read_make_no_store(
    inside: Callable[..., Done],
    store: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    prepare: Callable[[Path], None],
) -> None:
    monkeypatch.setattr(information, "mountpoints", list)
    prepare(store)
    before = tree(tmp_path)
    assert succeeded(inside("images", "--format", "json")).json == []
    assert len(succeeded(inside("images")).lines) == 1
    assert succeeded(inside("gc")).lines == ["freed 0B"]
    assert succeeded(inside("gc", "--format", "json")).json == {"removed": [], "freed": 0}
    reported = succeeded(inside("info", "--format", "json")).json
    assert (reported["store"], reported["images"], reported["blobs"]) == (str(store), 0, 0)
    assert succeeded(inside("info")).lines[0].endswith(f"{store} (there is none yet)")
    said = f"store {store}: there is none yet; imgfs load, commit or mount makes one"
    for command in (
        ["images", "app"],
        ["inspect", "app:1"],
        ["history", "app:1"],
        ["save", "app:1"],
        ["tag", "app:1", "app:2"],
        ["rm", "app:1"],
        ["fsck"],
        ["fsck", "--repair"],
        ["events", "--until", "0s"],
    ):
        assert refusal(inside(*command)) == said
    assert tree(tmp_path) == before


@pytest.mark.parametrize("prepare", NONE_YET)
def test_commands_that_write_make_a_store(
    imgfs: Command, store: Path, prepare: Callable[[Path], None]
) -> None:
    prepare(store)
    succeeded(imgfs("load", stdin=ARCHIVE))
    assert store.stat().st_mode & 0o777 == 0o700
    assert len(succeeded(imgfs("images", "-q")).lines) == 1


def test_events_wait_for_a_store(imgfs: Command) -> None:
    with imgfs.start("events", "--since", "0", stdout=subprocess.PIPE) as events:
        assert events.stdout is not None
        try:
            succeeded(imgfs("load", stdin=ARCHIVE))
            assert b'"load"' in events.stdout.readline()
        finally:
            events.kill()


def test_the_default_store(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("IMGFS_STORE", "")
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    assert store_path(None) == Path("/var/lib/imgfs")
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    monkeypatch.setenv("XDG_DATA_HOME", "/home/me/data")
    assert store_path(None) == Path("/home/me/data/imgfs")
    monkeypatch.delenv("XDG_DATA_HOME")
    monkeypatch.setenv("HOME", "/home/me")
    assert store_path(None) == Path("/home/me/.local/share/imgfs")


def test_a_user_without_a_home_is_told_to_give_a_store(
    bare: Callable[..., Done], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("IMGFS_STORE", "XDG_DATA_HOME", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    monkeypatch.setattr(os.path, "expanduser", lambda path: path)
    assert "set IMGFS_STORE" in refusal(bare("info"), status=2)
    refused = refusal(bare("--store", "registry://h.example", "images"))
    assert "set HOME or XDG_CACHE_HOME" in refused


@pytest.mark.parametrize("command", [["images"], ["load"], ["info"], ["mount", "/mnt"]])
def test_an_empty_text_names_no_store(imgfs: Command, command: list[str]) -> None:
    done = imgfs("--store", "", *command)
    assert done.status == 2
    assert done.err.startswith(b"imgfs: --store: expected a directory, found an empty text; ")
    assert done.err.count(b"\n") == 1


def test_a_new_store_is_closed_to_other_users(inside: Callable[..., Done], store: Path) -> None:
    store.parent.joinpath("x.tar").write_bytes(ARCHIVE)
    succeeded(inside("load", store.parent / "x.tar"))
    assert store.stat().st_mode & 0o777 == 0o700


# -- stores that cannot be used -------------------------------------------------------------------

OTHERS: dict[str, dict[str, bytes]] = {
    "files": {"notes.txt": b"mine", "photos/1.jpg": b"mine"},
    "hidden files": {".profile": b"mine"},
    "an OCI layout": {"oci-layout": b"{}", "index.json": b"{}", "blobs/sha256/00": b"mine"},
    "the content store of containerd": {"blobs/sha256/00": b"mine", "ingest/00/data": b"mine"},
    "blobs": {"blobs/sha256/00": b"mine"},
    "a program": {"version": b"1\n", "src/main.c": b"mine"},
    "a program with data": {"version": b"", "imgfs.db": b"mine", "leases.csv": b"mine"},
}


@pytest.mark.parametrize("files", OTHERS.values(), ids=OTHERS)
def test_a_directory_that_is_no_store_is_not_changed(
    imgfs: Command, store: Path, tmp_path: Path, files: dict[str, bytes]
) -> None:
    for name, data in files.items():
        (store / name).parent.mkdir(parents=True, exist_ok=True)
        (store / name).write_bytes(data)
    store.chmod(0o1777)
    (tmp_path / "mnt").mkdir()
    before = tree(tmp_path)
    for command in (
        ["images"],
        ["gc"],
        ["load"],
        ["fsck", "--repair"],
        ["mount", tmp_path / "mnt"],
    ):
        said = refusal(imgfs(*command, stdin=ARCHIVE))
        assert said.startswith(f"store {store}: is not an imgfs store (it has '")
        assert said.endswith("'); name a store, or a directory that is new or empty")
        assert "remove" not in said
    assert tree(tmp_path) == before


def test_a_shared_directory_is_not_changed(imgfs: Command, store: Path) -> None:
    store.mkdir()
    store.chmod(0o1777)
    said = refusal(imgfs("load", stdin=ARCHIVE))
    assert said == f"store {store}: is a directory that users share; use one of your own"
    assert store.stat().st_mode & 0o7777 == 0o1777
    assert list(store.iterdir()) == []


def test_a_version_that_is_no_regular_file_is_refused(imgfs: Command, store: Path) -> None:
    store.mkdir()
    os.mkfifo(store / "version")  # opening it would wait for a writer
    for command in (["images"], ["load"]):
        said = refusal(imgfs(*command, stdin=ARCHIVE))
        assert said == f"store {store}/version: is not a file, as the version of a store is"


COMMANDS = [["images"], ["save", "app:1"], ["rm", "app:1"], ["info"]]


def test_a_file_is_refused_as_a_store(inside: Callable[..., Done], store: Path) -> None:
    store.write_bytes(b"mine")
    for command in COMMANDS:
        assert refusal(inside(*command)).startswith(f"store {store}: ")
    assert store.read_bytes() == b"mine"


def test_a_path_below_a_file_is_refused(inside: Callable[..., Done], tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    below = tmp_path / "file/store"
    said = refusal(inside("images", "--store", below))
    assert said == f"store {below}: cannot be opened: Not a directory"


def test_a_store_of_a_newer_schema_is_refused(
    inside: Callable[..., Done], stock: Callable[..., None], store: Path
) -> None:
    stock(ARCHIVE)
    with closing(sqlite3.connect(store / "imgfs.db")) as database:
        database.execute("PRAGMA user_version = 99")
    for command in COMMANDS:
        assert "newer version" in refusal(inside(*command))


def test_a_store_of_a_newer_layout_is_refused(
    inside: Callable[..., Done], stock: Callable[..., None], store: Path
) -> None:
    stock(ARCHIVE)
    (store / "version").write_text("2\n")
    for command in COMMANDS:
        assert "expected store version 1, found '2'" in refusal(inside(*command))


def test_a_version_that_is_no_text_is_refused(
    inside: Callable[..., Done], stock: Callable[..., None], store: Path
) -> None:
    stock(ARCHIVE)
    (store / "version").write_bytes(b"\xff\x1b[31m")
    for command in COMMANDS:
        assert "expected store version 1, found" in refusal(inside(*command))


@pytest.mark.parametrize("version", [b"", b"\0\0"])
def test_an_empty_version_file_is_completed(
    inside: Callable[..., Done], stock: Callable[..., None], store: Path, version: bytes
) -> None:
    stock(ARCHIVE)
    (store / "version").write_bytes(version)
    assert inside("images").status == 0
    assert (store / "version").read_bytes() == b"1\n"


def test_a_damaged_database_is_reported(
    inside: Callable[..., Done], stock: Callable[..., None], store: Path
) -> None:
    stock(ARCHIVE)
    for path in store.glob("imgfs.db*"):
        path.unlink()
    (store / "imgfs.db").write_bytes(b"garbage" * 1000)
    for command in COMMANDS:
        said = refusal(inside(*command))
        assert said.startswith(f"store {store}/imgfs.db: the file is not a database")


@pytest.fixture
def read_only(store: Path) -> Iterator[Path]:
    """Make a directory unwritable, for root too if root lacks the capability to override modes."""
    store.mkdir()
    store.chmod(0o555)
    yield store
    store.chmod(0o755)


def unprivileged(store: Path, *arguments: str) -> Done:
    lowered = (
        ["setpriv", "--bounding-set=-dac_override,-dac_read_search"] if not os.getuid() else []
    )
    command = [*lowered, *IMGFS, "--store", str(store), *arguments]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, check=False)
    return Done(done.returncode, done.stdout, done.stderr)


def test_a_store_cannot_be_made_in_an_unwritable_directory(read_only: Path) -> None:
    expected = f"store {read_only}: cannot be opened: Permission denied"
    assert refusal(unprivileged(read_only, "load")) == expected
    assert read_only.stat().st_mode & 0o777 == 0o555
    below = read_only / "below"
    said = refusal(unprivileged(below, "load"))
    assert said == f"store {below}: cannot be opened: Permission denied"
    assert list(read_only.iterdir()) == []


def test_a_read_only_store_can_be_read(stock: Callable[..., None], store: Path) -> None:
    stock(ARCHIVE)
    for path in (*store.glob("imgfs.db*"), store):
        path.chmod(path.stat().st_mode & 0o555)
    try:
        said = refusal(unprivileged(store, "images"))
        assert said == f"store {store}: cannot be opened: Permission denied"
    finally:
        store.chmod(0o700)

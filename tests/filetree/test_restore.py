"""Entries made on a disk, also where another user renames what was made."""

import errno
import os
import resource
import stat
import subprocess
import tarfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from pathlib import Path

import pytest

from engine.errors import AlreadyExists, Unavailable
from engine.filetree.directory import scan
from engine.filetree.entry_tree import ROOT, LeftOut
from engine.filetree.merged import merged_root
from engine.filetree.open_directory import OpenDirectory
from engine.filetree.restore import Restorer
from engine.layers.layer import Layers
from tests.filetree.layers import (
    Member,
    directory,
    fifo,
    file,
    hardlink,
    layer,
    member,
    stored,
    symlink,
    with_xattrs,
)
from tests.stores.memory import MemoryStore

IS_ROOT = os.geteuid() == 0
TWO = [directory("d"), file("d/a", "one", mode=0o666), file("d/b", "two", mode=0o666)]


def ignore(_: int) -> None:
    """Do nothing when a piece of content was written."""


def restore(
    members: Sequence[Member], target: Path, on_content: Callable[[int], object] = ignore
) -> None:
    store = MemoryStore(target.parent)
    manifest = stored(store, [layer(*members)])
    with closing(Layers(store.content, store.tables, store.directory)) as layers:
        tree = merged_root(layers, manifest)
        with Restorer(layers, manifest.layers, tree, on_content, IS_ROOT) as restorer:
            restorer.restore(ROOT, os.fsencode(target))


def once(action: Callable[[], object]) -> Callable[[int], object]:
    """Return a function that does something when the first piece of content was written."""
    waiting = [action]

    def on_content(_: int) -> None:
        while waiting:
            waiting.pop()()

    return on_content


def test_every_kind_of_entry_gets_its_attributes(tmp_path: Path) -> None:
    members = [
        directory("d", mode=0o1750, mtime=5),
        file("d/f", "content", mode=0o640, mtime=-6),
        symlink("d/s", "nowhere", mtime=7),
        hardlink("z", "d/f"),
        fifo("pipe"),
        directory("empty", mode=0o500, mtime=8),
    ]
    if IS_ROOT:
        members.append(member("null", b"3", devmajor=1, devminor=3, mode=0o6622, uid=7, gid=8))
        members.append(symlink("theirs", "x", uid=7, gid=8))
    restore(members, tmp_path / "new")
    found = scan(tmp_path / "new")
    for info, _ in members:
        entry = found[info.name]
        if info.type != b"1":
            owned = (entry.uid, entry.gid) == (info.uid, info.gid) or not IS_ROOT
            mode = info.mode if entry.kind != "symlink" else entry.mode
            assert (entry.mode, entry.mtime_ns, owned) == (mode, info.mtime * 10**9, True)
    assert found["z"].inode == found["d/f"].inode
    assert os.readlink(tmp_path / "new/d/s") == "nowhere"


@pytest.mark.skipif(not IS_ROOT, reason="only root restores extended attributes")
def test_an_attribute_that_linux_takes_on_files_only_is_left_out(tmp_path: Path) -> None:
    records = ["SCHILY.xattr.user.a", "SCHILY.xattr.trusted.a"]
    members = [
        member("a", tarfile.SYMTYPE, link="x", records=dict.fromkeys(records, "x")),
        with_xattrs("b", tarfile.FIFOTYPE, {"user.a": "x"}),
        with_xattrs("c", tarfile.REGTYPE, {"trusted.a": "x"}),
    ]
    store = MemoryStore(tmp_path)
    manifest = stored(store, [layer(*members)])
    with closing(Layers(store.content, store.tables, store.directory)) as layers:
        tree = merged_root(layers, manifest)
        with Restorer(layers, manifest.layers, tree, ignore, keeps_owners=True) as restorer:
            restorer.restore(ROOT, os.fsencode(tmp_path / "new"))
            left_out = restorer.left_out
    assert left_out == (
        LeftOut(0, b"a", "has no attribute user.a on a disk, since it is a symlink"),
        LeftOut(0, b"b", "has no attribute user.a on a disk, since it is a fifo"),
    )
    for name in "abc":
        found = os.listxattr(tmp_path / "new" / name, follow_symlinks=False)
        assert ("trusted.a" in found) == (name != "b")


@pytest.mark.parametrize("function", ["os.pwrite", "engine.layers.layer.Layer.pread"])
def test_a_file_is_there_until_the_one_that_replaces_it_is_complete(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, function: str
) -> None:
    """An error of the disk names the file, and one of the store does not."""
    made = tmp_path / "new/d/a"
    made.parent.mkdir(parents=True)
    made.write_text("old")

    def fail(*_: object) -> None:
        assert made.read_text() == "old"
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    with monkeypatch.context() as patch:
        patch.setattr(function, fail)
        with pytest.raises(OSError, match="Input/output") as raised:
            restore(TWO, tmp_path / "new")
    assert raised.value.filename == (str(made) if function == "os.pwrite" else None)
    assert made.read_text() == "old"
    assert os.listdir(made.parent) == ["a"]
    restore(TWO, tmp_path / "new")
    assert made.read_text() == "one"
    assert sorted(os.listdir(made.parent)) == ["a", "b"]


def test_a_name_that_leads_to_the_new_file_already_is_left_as_it_is(tmp_path: Path) -> None:
    """As where two copies are made at once: a rename between two links of one file does nothing."""
    (tmp_path / "a").touch()
    (tmp_path / "b").hardlink_to(tmp_path / "a")
    with OpenDirectory(os.fsencode(tmp_path)) as here, here.replacing(b"b") as made:
        here.link((b"a",), made)
    assert sorted(os.listdir(tmp_path)) == ["a", "b"]


def test_what_somebody_else_makes_meanwhile_is_left_alone(tmp_path: Path) -> None:
    with (
        OpenDirectory(os.fsencode(tmp_path)) as here,
        suppress(FileExistsError),
        here.replacing(b"a") as made,
    ):
        (tmp_path / "a").write_text("theirs")
        os.close(here.create(made))
    assert (tmp_path / "a").read_text() == "theirs"


def test_hard_links_of_before_are_replaced_by_new_ones(tmp_path: Path) -> None:
    new = tmp_path / "new"
    new.mkdir()
    (new / "a").write_text("old")
    for name in "bc":
        (new / name).hardlink_to(new / "a")
    members = [file("a", "new"), hardlink("b", "a")]
    for _ in range(2):
        restore(members, new)
        assert [(new / name).read_text() for name in "abc"] == ["new", "new", "old"]
        assert (new / "a").samefile(new / "b")
        assert sorted(os.listdir(new)) == ["a", "b", "c"]


def test_a_file_that_a_symlink_replaces_keeps_its_attributes_and_the_target_its_own(
    tmp_path: Path,
) -> None:
    victim, made = tmp_path / "victim", tmp_path / "new/d/a"
    victim.touch(0o600)
    before = victim.stat()

    def swap() -> None:
        made.rename(tmp_path / "moved")
        made.symlink_to(victim)

    restore(TWO, tmp_path / "new", once(swap))
    assert victim.stat() == before
    assert stat.S_IMODE((tmp_path / "moved").stat().st_mode) == 0o666


def test_a_directory_that_a_symlink_replaces_leads_to_nothing_elsewhere(tmp_path: Path) -> None:
    made, outside = tmp_path / "new/d", tmp_path / "outside"
    outside.mkdir(0o700)
    before = outside.stat()

    def swap() -> None:
        made.rename(tmp_path / "new/moved")
        made.symlink_to(outside)

    with pytest.raises(AlreadyExists):
        restore(TWO, tmp_path / "new", once(swap))
    assert (outside.stat(), os.listdir(outside)) == (before, [])
    assert sorted(os.listdir(tmp_path / "new/moved")) == ["a", "b"]


def test_a_directory_that_is_moved_elsewhere_is_not_left_to_its_new_parent(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()

    def move() -> None:
        (tmp_path / "new/d").rename(tmp_path / "elsewhere/d")

    with pytest.raises(Unavailable, match="new/d: in use by another writer"):
        restore([*TWO, file("e")], tmp_path / "new", once(move))
    assert os.listdir(tmp_path / "elsewhere") == ["d"]


def test_what_another_type_of_file_replaces_is_left_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    victim, made, mkfifo = tmp_path / "victim", tmp_path / "new/pipe", os.mknod
    victim.touch(0o600)
    before = victim.stat()

    def swapped(*args: object, **options: object) -> None:
        mkfifo(*args, **options)  # type: ignore[arg-type]  # as they came
        made.unlink()
        made.symlink_to(victim)

    monkeypatch.setattr(os, "mknod", swapped)
    with pytest.raises(Unavailable):
        restore([fifo("pipe")], tmp_path / "new")
    assert victim.stat() == before


@contextmanager
def few_descriptors() -> Iterator[None]:
    """Let this process open a few more files only."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    highest = max(int(name) for name in os.listdir("/proc/self/fd"))
    resource.setrlimit(resource.RLIMIT_NOFILE, (highest + 20, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_a_tree_can_be_deeper_than_descriptors_and_paths_allow(tmp_path: Path) -> None:
    parts = ["d" * 20] * 194
    deep = "/".join(parts)
    try:
        with few_descriptors():
            restore([file(f"{deep}/f", "x"), hardlink(f"{deep}/z", f"{deep}/f")], tmp_path / "new")
        count = subprocess.check_output(["find", "new", "-type", "f", "-links", "2"], cwd=tmp_path)
        assert count.count(b"\n") == 2
    finally:
        subprocess.run(["rm", "-rf", tmp_path / "new"], check=True)


@pytest.fixture
def _ordinary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Work as an ordinary user in a directory of that user."""
    monkeypatch.chdir(tmp_path)
    if not IS_ROOT:
        yield
        return
    os.chown(tmp_path, 12345, -1)
    os.seteuid(12345)
    yield
    os.seteuid(0)


@pytest.mark.usefixtures("_ordinary")
def test_a_hard_link_leads_out_of_a_directory_that_nobody_may_search(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("tests.filetree.test_restore.IS_ROOT", False)
    restore([directory("d", mode=0), file("d/f", "x"), hardlink("z", "d/f")], Path("new"))
    assert Path("new/z").stat().st_nlink == 2
    assert stat.S_IMODE(Path("new/d").stat().st_mode) == 0
    Path("new/d").chmod(0o700)

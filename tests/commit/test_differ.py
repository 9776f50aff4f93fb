"""The differ returns the changes that lead from one tree to another."""

import io
import itertools
import os
import shutil
import subprocess
import tarfile
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.commit import differ
from engine.commit import layer_tar as layer
from engine.commit.change import Change
from engine.errors import ChangedFile
from engine.filetree.directory import reading, scan
from engine.filetree.entry import FileEntry, HostFile
from engine.filetree.tree import EMPTY, Tree
from tests.commit.tars import tar_of
from tests.filetree.layers import image_of
from tests.trees import make_odd, picture


def between(before: Tree, after: Tree) -> bytes:
    return tar_of(differ.diff(before, after))


def names(tar: bytes) -> list[str]:
    with tarfile.open(fileobj=io.BytesIO(tar)) as archive:
        return [f"{m.name}>{m.linkname}" if m.islnk() else m.name for m in archive]


def applied(*layers: bytes) -> Tree:
    return image_of(layers).tree


@pytest.fixture
def root(tmp_path: Path) -> Path:
    path = tmp_path / "root"
    path.mkdir()
    return path


@pytest.mark.skipif(os.geteuid() != 0, reason="devices and owners need root")
def test_every_kind_of_entry_comes_back(root: Path) -> None:
    make_odd(root)
    tree = scan(root)
    assert picture(applied(between(EMPTY, tree))) == picture(tree)
    assert "s" not in tree


@pytest.mark.skipif(os.geteuid() != 0, reason="devices and owners need root")
def test_gnu_tar_unpacks_the_same(root: Path, tmp_path: Path) -> None:
    make_odd(root)
    out = tmp_path / "out"
    out.mkdir()
    command = ["tar", "-C", str(out), "--xattrs", "--xattrs-include=*", "--numeric-owner", "-xp"]
    subprocess.run(command, input=between(EMPTY, scan(root)), check=True)
    assert picture(scan(out)) == picture(scan(root))


def write(path: str, text: str = "text") -> Callable[[Path], object]:
    def change(root: Path) -> None:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(text)

    return change


def replaced(path: str) -> Callable[[Path], object]:
    def change(root: Path) -> None:
        (root / path).unlink()
        (root / path).mkdir()
        (root / path / "inside").touch()

    return change


def timed(path: str, mtime_ns: int) -> Callable[[Path], object]:
    return lambda root: os.utime(root / path, ns=(0, mtime_ns), follow_symlinks=False)


def joined(root: Path) -> None:
    (root / "etc/hosts.link").unlink()
    os.link(root / "etc/issue", root / "etc/hosts.link")


def linked(root: Path) -> None:
    os.link(root / "home/me/file", root / "a")
    os.link(root / "file", root / "home/me/z")
    (root / "etc/hosts.link").unlink()


def turned(root: Path) -> None:
    (root / "etc/sym").unlink()
    (root / "etc/sym").symlink_to("issue")


def emptied(root: Path) -> None:
    shutil.rmtree(root / "home")
    (root / "home").write_text("x")


BEFORE: list[Callable[[Path], object]] = [
    write("etc/hosts"),
    write("etc/issue"),
    write("home/me/file"),
    write("home/me/other"),
    write("file"),
    lambda root: os.link(root / "etc/hosts", root / "etc/hosts.link"),
    lambda root: (root / "etc/sym").symlink_to("hosts"),
    timed("home/me", 5_100_000_000),
    timed("etc/sym", 5_100_000_000),
]
CHANGES: dict[str, tuple[Callable[[Path], object], list[str]]] = {
    "nothing": (lambda _: None, []),
    "a new file": (write("new/file"), ["new", "new/file"]),
    "a file gone": (
        lambda root: (root / "home/me/file").unlink(),
        ["home", "home/me", "home/me/.wh.file"],
    ),
    "a directory gone": (lambda root: shutil.rmtree(root / "home/me"), ["home", "home/.wh.me"]),
    "a mode": (lambda root: (root / "file").chmod(0o600), ["file"]),
    "a mode of a directory": (lambda root: (root / "home/me").chmod(0o700), ["home", "home/me"]),
    "a file becomes a directory": (replaced("file"), ["file", "file/inside"]),
    "a directory becomes a file": (
        emptied,
        ["home"],
    ),
    "one of two hard links is written": (
        write("etc/hosts", "longer than before"),
        ["etc", "etc/hosts", "etc/hosts.link>etc/hosts"],
    ),
    "a third hard link": (
        lambda root: os.link(root / "etc/hosts", root / "a"),
        ["a", "etc", "etc/hosts>a", "etc/hosts.link>a"],
    ),
    "a hard link is broken": (
        lambda root: (
            shutil.copy2(root / "etc/hosts", root / "etc/copy"),
            (root / "etc/copy").rename(root / "etc/hosts"),
        ),
        ["etc", "etc/hosts", "etc/hosts.link"],
    ),
    "a hard link is made of an equal file": (
        joined,
        ["etc", "etc/hosts", "etc/hosts.link", "etc/issue>etc/hosts.link"],
    ),
    "hard links in other directories, new and removed": (
        linked,
        [
            "a",
            "etc",
            "etc/.wh.hosts.link",
            "home",
            "home/me",
            "home/me/file>a",
            "home/me/z",
            "file>home/me/z",
        ],
    ),
    "a fraction of a directory's time": (timed("home/me", 5_200_000_000), ["home", "home/me"]),
    "a fraction of a symlink's time": (timed("etc/sym", 5_100_000_001), ["etc", "etc/sym"]),
    "a symlink turns": (
        turned,
        ["etc", "etc/sym"],
    ),
    "a rename of a directory": (
        lambda root: (root / "home/me").rename(root / "home/you"),
        ["home", "home/.wh.me", "home/you", "home/you/file", "home/you/other"],
    ),
}


@pytest.mark.parametrize("name", CHANGES)
def test_what_a_change_writes(root: Path, name: str) -> None:
    for step in BEFORE:
        step(root)
    before = scan(root)
    base = between(EMPTY, before)
    change, expected = CHANGES[name]
    change(root)
    after = scan(root)
    written = between(before, after)
    assert names(written) == expected
    assert picture(applied(base, written)) == picture(after)
    assert picture(applied(base, between(applied(base), after))) == picture(after)


def test_a_file_of_the_same_second_and_size_is_compared(root: Path) -> None:
    (root / "file").write_text("one")
    os.utime(root / "file", (1, 1))
    before = applied(between(EMPTY, scan(root)))
    assert names(between(before, scan(root))) == []
    (root / "file").write_text("two")
    os.utime(root / "file", (1, 1))
    assert names(between(before, scan(root))) == ["file"]


TIMES = {
    (5.5, 5.5): True,
    (5.5, 5): True,
    (5, 5.5): True,
    (-0.5, -1): True,
    (5.5, 5.25): False,
    (5.5, 6): False,
    (-0.5, 0): False,
}


@pytest.mark.parametrize("kind", ["dir", "symlink", "fifo", "character device", "file"])
@pytest.mark.parametrize("times", TIMES, ids=str)
def test_times_that_are_the_same(kind: str, times: tuple[float, float]) -> None:
    before, after = (
        Tree({"": FileEntry("dir"), "path": FileEntry(kind, mtime_ns=int(time * 10**9))})
        for time in times
    )
    assert (list(differ.diff(before, after)) == []) is TIMES[times]


def test_the_mode_of_a_symlink_is_nothing() -> None:
    before, after = (
        Tree({"": FileEntry("dir"), "path": FileEntry("symlink", mode, linkname="x")})
        for mode in (0o755, 0o777)
    )
    assert list(differ.diff(before, after)) == []


def test_everything_is_gone() -> None:
    entries = {"": FileEntry("dir"), "a": FileEntry("dir"), "a/b": FileEntry("fifo")}
    for nothing in (EMPTY, Tree({"": FileEntry("dir")})):
        assert list(differ.diff(Tree(entries), nothing)) == [Change("a", None)]


def test_files_whose_times_agree_to_a_fraction_are_not_read(root: Path) -> None:
    (root / "file").write_text("one")
    os.link(root / "file", root / "link")
    os.utime(root / "file", ns=(0, 5_500_000_000))
    tree = scan(root)
    before = applied(between(EMPTY, tree))
    (root / "file").unlink()
    assert names(between(before, tree)) == []


def test_a_file_is_compared_once_for_all_of_its_links(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (root / "file").write_text("one")
    os.utime(root / "file", (5, 5))
    for number in range(20):
        os.link(root / "file", root / f"link{number}")
    tree = scan(root)
    before = applied(between(EMPTY, tree))
    read: list[str] = []

    def counted(entry: FileEntry) -> AbstractContextManager[int]:
        assert isinstance(entry.content, HostFile)
        read.append(entry.content.path)
        return reading(entry)

    monkeypatch.setattr("engine.commit.differ.reading", counted)
    assert names(between(before, tree)) == []
    assert len(read) == 1


def test_a_name_that_means_a_removed_one(root: Path) -> None:
    (root / ".wh.x").touch()
    with pytest.raises(layer.ReservedName, match=r"\.wh\.x"):
        between(EMPTY, scan(root))


def test_a_file_that_changes_while_it_is_read(root: Path) -> None:
    (root / "file").write_text("before")
    tree = scan(root)
    (root / "file").write_text("after this")
    with pytest.raises(ChangedFile, match="file: changed"):
        between(EMPTY, tree)
    (root / "file").unlink()
    with pytest.raises(ChangedFile, match="file: changed"):
        between(EMPTY, tree)


NAMES = st.lists(st.sampled_from("abc"), min_size=1, max_size=3).map("/".join)
STEPS = st.tuples(
    st.sampled_from(("file", "dir", "remove", "link", "symlink", "mode", "rename", "time")),
    NAMES,
    NAMES,
)


def step_in(root: Path, tick: int, kind: str, path: str, other: str) -> None:
    """Do one thing to a tree, if it can be done; no two files are written at the same time."""
    place = root / path
    try:
        match kind:
            case "file":
                place.parent.mkdir(parents=True, exist_ok=True)
                place.write_text(other)
                os.utime(place, (tick, tick))
            case "dir":
                place.mkdir(parents=True)
            case "remove":
                shutil.rmtree(place) if place.is_dir() else place.unlink()
            case "link":
                os.link(root / other, place)
            case "symlink":
                place.symlink_to(other)
            case "mode":
                place.chmod(0o700)
            case "rename":
                place.rename(root / other)
            case "time":
                os.utime(place, (tick, tick + 0.5), follow_symlinks=False)
    except OSError:
        return


@settings(max_examples=150)
@given(st.lists(st.lists(STEPS, max_size=8), min_size=1, max_size=4))
def test_layers_applied_give_the_tree(
    tmp_path_factory: pytest.TempPathFactory, rounds: Sequence[Sequence[tuple[str, str, str]]]
) -> None:
    root = tmp_path_factory.mktemp("tree") / "root"
    root.mkdir()
    layers: list[bytes] = []
    before = EMPTY
    ticks = itertools.count()
    for steps in rounds:
        for step in steps:
            step_in(root, next(ticks), *step)
        after = scan(root)
        layers.append(between(before, after))
        before = applied(*layers)
        assert picture(before) == picture(after)
    shutil.rmtree(root)


def test_a_change_below_very_many_directories() -> None:
    paths = ["", *("/".join("d" * depth) for depth in range(1, 1900))]
    above: dict[str, FileEntry] = {path: FileEntry("dir") for path in paths}
    deepest = f"{paths[-1]}/new"
    found = list(differ.diff(Tree(above), Tree(above | {deepest: FileEntry("fifo")})))
    assert [change.path for change in found] == [*paths[1:], deepest]

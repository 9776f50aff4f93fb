import errno
import os
import socket
import tarfile
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.errors import ChangedFile
from engine.filetree.directory import reading, scan
from engine.filetree.entry import FileEntry, HostFile
from engine.filetree.tree import Tree
from tests.filetree.layers import applied, content
from tests.mounts import open_files

is_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root may do this")


def read(entry: FileEntry) -> bytes:
    with reading(entry) as descriptor:
        return os.read(descriptor, 1 << 20)


def kinds(tree: Tree) -> dict[str, str]:
    return {path: entry.kind for path, entry in tree.items()}


# -- what is found --------------------------------------------------------------------------------


def test_finds_every_kind_but_sockets(tmp_path: Path) -> None:
    (tmp_path / "d").mkdir()
    (tmp_path / "d" / "f").write_bytes(b"abc")
    (tmp_path / "s").symlink_to("../nowhere")
    os.mkfifo(tmp_path / "p")
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(tmp_path / "d" / "socket"))
    tree = scan(tmp_path)
    assert kinds(tree) == {"": "dir", "d": "dir", "d/f": "file", "p": "fifo", "s": "symlink"}
    assert tree["s"].linkname == "../nowhere"
    assert (tree["d/f"].size, tree["d"].size, tree["s"].size) == (3, 0, 0)


@is_root
def test_finds_devices(tmp_path: Path) -> None:
    os.mknod(tmp_path / "c", 0o20600, os.makedev(1, 300))
    os.mknod(tmp_path / "b", 0o60600, os.makedev(259, 1 << 19))
    tree = scan(tmp_path)
    assert (tree["c"].kind, tree["c"].device) == ("character device", (1, 300))
    assert (tree["b"].kind, tree["b"].device) == ("block device", (259, 1 << 19))


def test_tells_what_stat_tells(tmp_path: Path) -> None:
    file = tmp_path / "f"
    file.write_bytes(b"x")
    file.chmod(0o4751)
    os.utime(file, ns=(0, -1_500_000_001))
    found, seen = scan(tmp_path)["f"], file.stat()
    assert (found.mode, found.mtime_ns) == (0o4751, -1_500_000_001)
    assert (found.uid, found.gid) == (seen.st_uid, seen.st_gid)
    assert found.content == HostFile(str(file), seen.st_dev, seen.st_ino, seen.st_ctime_ns)


@is_root
def test_tells_owners(tmp_path: Path) -> None:
    (tmp_path / "f").touch()
    os.chown(tmp_path / "f", 1 << 22, 3_000_000_000)
    assert (scan(tmp_path)["f"].uid, scan(tmp_path)["f"].gid) == (1 << 22, 3_000_000_000)


def test_tells_hard_links(tmp_path: Path) -> None:
    (tmp_path / "a").touch()
    (tmp_path / "d").mkdir()
    (tmp_path / "d" / "b").hardlink_to(tmp_path / "a")
    (tmp_path / "s").symlink_to("a")
    os.link(tmp_path / "s", tmp_path / "t", follow_symlinks=False)
    (tmp_path / "alone").touch()
    assert sorted(scan(tmp_path).links().values()) == [["a", "d/b"], ["s", "t"]]


def test_tells_extended_attributes(tmp_path: Path) -> None:
    (tmp_path / "f").touch()
    try:
        os.setxattr(tmp_path / "f", "user.a", b"\0x")
        os.setxattr(tmp_path, "user.root", b"")
    except OSError:
        pytest.skip("the file system has no user attributes")
    (tmp_path / "s").symlink_to("f")
    tree = scan(tmp_path)
    assert {path: e.xattrs.get("user.a") for path, e in tree.items()} == {
        "": None,
        "f": b"\0x",
        "s": None,
    }
    assert tree[""].xattrs["user.root"] == b""


@pytest.mark.parametrize(
    ("function", "number"),
    [("listxattr", errno.ENOTSUP), ("listxattr", errno.EPERM), ("getxattr", errno.ENODATA)],
)
def test_does_without_extended_attributes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, function: str, number: int
) -> None:
    def fail(*_args: Any, **_options: Any) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "listxattr", lambda *_args, **_options: ["user.a"])
    monkeypatch.setattr(os, function, fail)
    assert scan(tmp_path)[""].xattrs == {}


@pytest.mark.parametrize("function", ["listxattr", "getxattr"])
def test_other_errors_of_extended_attributes_are_errors(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, function: str
) -> None:
    def fail(*_args: Any, **_options: Any) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    (tmp_path / "f").touch()
    monkeypatch.setattr(os, "listxattr", lambda *_args, **_options: ["user.a"])
    monkeypatch.setattr(os, function, fail)
    with pytest.raises(OSError, match="Input/output error"):
        scan(tmp_path)


def test_names_need_not_be_utf8(tmp_path: Path) -> None:
    Path(os.fsdecode(bytes(tmp_path) + b"/\xff\n")).touch()
    assert list(kinds(scan(tmp_path))) == ["", "\udcff\n"]


def test_follows_no_symlinks_but_the_root(tmp_path: Path) -> None:
    (tmp_path / "root" / "d").mkdir(parents=True)
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "f").touch()
    (tmp_path / "root" / "s").symlink_to(tmp_path / "outside")
    (tmp_path / "root" / "d" / "loop").symlink_to("..")
    (tmp_path / "link").symlink_to("root")
    expected = {"": "dir", "d": "dir", "d/loop": "symlink", "s": "symlink"}
    assert kinds(scan(tmp_path / "root")) == kinds(scan(tmp_path / "link")) == expected


def test_paths_may_be_longer_than_the_kernel_takes_at_once(tmp_path: Path) -> None:
    name, depth = "d" * 200, 30
    descriptors = [os.open(tmp_path, os.O_RDONLY)]
    for _ in range(depth):
        os.mkdir(name, dir_fd=descriptors[-1])
        descriptors.append(os.open(name, os.O_RDONLY, dir_fd=descriptors[-1]))
    for descriptor in descriptors:
        os.close(descriptor)
    assert len(scan(tmp_path)) == depth + 1


def test_leaves_no_descriptors_open(tmp_path: Path) -> None:
    for name in ("a/b/c", "a/d", "e"):
        (tmp_path / name).mkdir(parents=True)
    scan(tmp_path)
    assert not [path for path in open_files(os.getpid()) if path.startswith(str(tmp_path))]


def test_the_root_must_be_a_directory(tmp_path: Path) -> None:
    (tmp_path / "f").touch()
    with pytest.raises(NotADirectoryError):
        scan(tmp_path / "f")
    with pytest.raises(FileNotFoundError):
        scan(tmp_path / "none")


# -- what changes meanwhile -----------------------------------------------------------------------


def replace_file(file: Path) -> None:
    file.with_name("new").write_bytes(b"same size")
    file.with_name("new").rename(file)


def replace_by_directory(place: Path) -> None:
    place.rename(place.with_name("x"))
    place.mkdir()


def replace_by_symlink(place: Path) -> None:
    place.rename(place.with_name("x"))
    place.symlink_to("x")


def replace_by_file(place: Path) -> None:
    place.rename(place.with_name("x"))
    place.touch()


def replace_directory_above(file: Path) -> None:
    replace_by_file(file.parent)


CHANGES: dict[str, Callable[[Path], object]] = {
    "other bytes": lambda file: file.write_bytes(b"other one"),
    "more bytes": lambda file: file.write_bytes(b"some more bytes"),
    "another file": replace_file,
    "no file": Path.unlink,
    "a directory": replace_by_directory,
    "a symlink": replace_by_symlink,
    "no directory": replace_directory_above,
}


def settled(file: Path) -> None:
    """Put the file's ctime behind the clock, which may not tick between two changes."""
    before = file.stat().st_ctime_ns
    while file.stat().st_ctime_ns == before:
        file.chmod(0o644)


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_a_file_that_changed_is_not_read(tmp_path: Path, change: Callable[[Path], object]) -> None:
    file = tmp_path / "d" / "f"
    file.parent.mkdir()
    file.write_bytes(b"same size")
    entry = scan(tmp_path)["d/f"]
    assert read(entry) == b"same size"
    settled(file)
    change(file)
    with pytest.raises(ChangedFile) as caught:
        read(entry)
    assert str(caught.value) == f"{file}: changed while it was read"


def test_a_file_that_changes_while_it_is_read(tmp_path: Path) -> None:
    file = tmp_path / "f"
    file.write_bytes(b"before")
    entry = scan(tmp_path)["f"]
    with pytest.raises(ChangedFile), reading(entry):
        settled(file)


def test_a_pipe_in_the_place_of_a_file_is_not_waited_for(tmp_path: Path) -> None:
    file = tmp_path / "f"
    file.write_bytes(b"")
    entry = scan(tmp_path)["f"]
    file.unlink()
    os.mkfifo(file)
    with pytest.raises(ChangedFile):
        read(entry)


def swap(monkeypatch: pytest.MonkeyPatch, change: Callable[[], object]) -> None:
    """Make a change when the scan is about to enter a directory below the root."""
    real = os.open

    def changed(*args: Any, **options: Any) -> int:
        if "dir_fd" in options:
            change()
        return real(*args, **options)

    monkeypatch.setattr(os, "open", changed)


SWAPS: dict[str, Callable[[Path], object]] = {
    "another directory": replace_by_directory,
    "a symlink": replace_by_symlink,
    "nothing": Path.rmdir,
    "a file": replace_by_file,
}


@pytest.mark.parametrize("change", SWAPS.values(), ids=SWAPS)
def test_a_directory_that_is_replaced_is_not_entered(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: Callable[[Path], object]
) -> None:
    (tmp_path / "d").mkdir()
    swap(monkeypatch, lambda: change(tmp_path / "d"))
    with pytest.raises(ChangedFile, match=f"{tmp_path}/d: changed"):
        scan(tmp_path)


def test_what_goes_away_during_the_scan(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "listdir", lambda _: ["gone"])
    with pytest.raises(ChangedFile, match=f"{tmp_path}/gone: changed"):
        scan(tmp_path)


def test_an_error_names_the_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse() -> None:
        raise PermissionError(errno.EACCES, "Permission denied", "d")

    (tmp_path / "d").mkdir()
    swap(monkeypatch, refuse)
    with pytest.raises(PermissionError) as caught:
        scan(tmp_path)
    assert caught.value.filename == f"{tmp_path}/d"


# -- a directory and its tar are the same tree ----------------------------------------------------

NAMES = st.sampled_from(["a", "b", "é", "\udcff", " ", "-", "x" * 150, "n\nl"])
LEAVES = st.one_of(
    st.tuples(st.just("file"), st.binary(max_size=20)),
    st.tuples(st.just("symlink"), st.sampled_from(["a", "../..", "/etc", "x" * 120])),
    st.tuples(st.just("fifo"), st.none()),
    st.tuples(st.just("link"), st.integers(0, 9)),
)
TREES = st.recursive(
    st.dictionaries(NAMES, LEAVES, max_size=4),
    lambda inner: st.dictionaries(NAMES, st.one_of(LEAVES, inner), max_size=4),
    max_leaves=12,
)
MODES = st.sampled_from([0o755, 0o600, 0o4711, 0o1777, 0o2750])
TIMES = st.sampled_from([0, 1_700_000_000_500_000_000, -1_500_000_000, 10**19])  # exact as floats


def make(place: Path, tree: Mapping[str, Any], files: list[Path], draw: st.DataObject) -> None:
    for name, what in tree.items():
        path = place / name
        match what:
            case ("file", data):
                path.write_bytes(data)
                files.append(path)
            case ("symlink", target):
                path.symlink_to(target)
            case ("fifo", _):
                os.mkfifo(path)
            case ("link", number):
                if files:
                    path.hardlink_to(files[number % len(files)])
            case below:
                path.mkdir()
                make(path, below, files, draw)
        if os.path.lexists(path):
            if not path.is_symlink():
                path.chmod(draw.draw(MODES))
            time = draw.draw(TIMES)
            os.utime(path, ns=(time, time), follow_symlinks=False)


def facts(tree: Tree, data: Callable[[FileEntry], bytes]) -> dict[str, tuple[object, ...]]:
    links = tree.links()
    return {
        path: (
            entry.kind,
            entry.mode,
            (entry.uid, entry.gid),
            entry.mtime_ns,
            entry.size,
            entry.linkname,
            data(entry) if entry.kind == "file" else None,
            links.get(entry.inode) if entry.kind != "dir" else None,
        )
        for path, entry in tree.items()
    }


@given(TREES, st.data())
def test_a_directory_and_its_tar_are_the_same_tree(
    tree: Mapping[str, Any], draw: st.DataObject
) -> None:
    with tempfile.TemporaryDirectory() as name:
        root = Path(name, "root")
        root.mkdir()
        make(root, tree, [], draw)
        os.utime(root, ns=(0, 0))
        tar = Path(name, "tar")
        with tarfile.open(tar, "w", format=tarfile.PAX_FORMAT) as archive:
            archive.add(root, ".")
        layers = [tar.read_bytes()]
        expected = facts(scan(root), read)
        assert facts(applied(layers), lambda entry: content(entry, layers)) == expected

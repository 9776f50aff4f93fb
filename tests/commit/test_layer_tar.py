"""The tar of a layer: the members for a change."""

import io
import tarfile

import pytest

from engine.commit.change import Change
from engine.commit.epoch import clamp_tree
from engine.filetree.entry import FileEntry
from engine.filetree.tree import Tree
from tests.commit.tars import tar_of
from tests.filetree.layers import applied

SECOND = 10**9


def members(*changes: Change) -> list[tarfile.TarInfo]:
    data = tar_of(changes)
    return tarfile.open(fileobj=io.BytesIO(data)).getmembers()


def comes_back(entry: FileEntry) -> FileEntry:
    return applied([tar_of([Change("path", entry)])])["path"]


@pytest.mark.parametrize("kind", ["dir", "symlink", "fifo", "character device", "block device"])
@pytest.mark.parametrize("mtime", [5 * SECOND + 1, -SECOND // 2, 8**11 * SECOND + SECOND // 4])
def test_times_have_their_fraction(kind: str, mtime: int) -> None:
    linkname = "x" if kind == "symlink" else ""
    assert comes_back(FileEntry(kind, mtime_ns=mtime, linkname=linkname)).mtime_ns == mtime


def test_a_hard_link_has_the_time_of_its_file() -> None:
    entry = FileEntry("fifo", mtime_ns=SECOND // 2)
    first, second = members(Change("a", entry), Change("b", entry, "a"))
    assert second.islnk()
    assert first.pax_headers == second.pax_headers == {"mtime": "0.5"}


def test_whole_seconds_are_in_the_header_alone() -> None:
    (member,) = members(Change("a", FileEntry("fifo", mtime_ns=5 * SECOND)))
    assert (member.mtime, member.pax_headers) == (5, {})


CLAMPED = {
    4 * SECOND + 1: 4 * SECOND + 1,
    5 * SECOND: 5 * SECOND,
    5 * SECOND + 1: 5 * SECOND,
    6 * SECOND: 5 * SECOND,
    -SECOND // 2: -SECOND // 2,
}


@pytest.mark.parametrize("mtime", CLAMPED)
def test_what_is_later_than_the_clamp_has_its_second(mtime: int) -> None:
    tree = Tree({"": FileEntry("dir"), "path": FileEntry("fifo", mtime_ns=mtime)})
    assert clamp_tree(tree, 5)["path"].mtime_ns == CLAMPED[mtime]


@pytest.mark.parametrize("name", ["user.a", "user.a=b", "user.=%3D=", "user.\udcff=é"])
@pytest.mark.parametrize("value", [b"", b"=", b"\0\n", b"abcd"])
def test_attributes_of_any_name(name: str, value: bytes) -> None:
    entry = FileEntry("dir", xattrs={name: value, "trusted.a": b"", "user.overlay.x": b""})
    assert comes_back(entry).xattrs == {name: value}


def test_an_opaque_directory() -> None:
    entry = FileEntry("dir", 0o2750, 7, 8, mtime_ns=5 * SECOND)
    directory, marker = members(Change("d", entry, opaque=True))
    assert (directory.isdir(), directory.mode) == (True, 0o2750)
    assert (marker.name, marker.isreg(), marker.size) == ("d/.wh..wh..opq", True, 0)
    assert (marker.mode, marker.uid, marker.gid) == (0o750, 7, 8)


def test_a_removed_entry() -> None:
    (marker,) = members(Change("d/gone", None))
    assert (marker.name, marker.isreg(), marker.mode, marker.mtime) == ("d/.wh.gone", True, 0, 0)

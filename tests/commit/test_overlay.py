"""The changes that an overlayfs upper directory records."""

import pytest

from engine.commit.overlay import ForeignUpper, changes
from engine.filetree.entry import FileEntry
from engine.filetree.tree import Tree

ROOT = {"": FileEntry("dir", inode=1)}


def told(entries: dict[str, FileEntry]) -> list[str]:
    """Changes as layers name them."""
    found = []
    for change in changes(Tree({**ROOT, **entries})):
        what = "gone" if change.entry is None else change.entry.kind
        found.append(f"{change.path} {what}{' opaque' * change.opaque} {change.link}".rstrip())
    return found


def opaque(value: bytes, space: str = "trusted") -> FileEntry:
    return FileEntry("dir", 0o755, inode=9, xattrs={f"{space}.overlay.opaque": value})


def test_opaque_directories_and_removed_files() -> None:
    gone = FileEntry("character device", inode=5)
    found = told(
        {
            "d1": opaque(b"y"),
            "d1/f": FileEntry("file", inode=2),
            "d2": opaque(b"y", "user"),
            "d3": opaque(b"x"),
            "d3/a": gone,
            "d3/b": gone,
            "d3/c": FileEntry("file", inode=6, xattrs={"user.overlay.whiteout": b""}),
        }
    )
    assert found == [
        "d1 dir opaque",
        "d1/f file",
        "d2 dir opaque",
        "d3 dir",
        "d3/a gone",
        "d3/b gone",
        "d3/c gone",
    ]


def test_what_only_looks_like_a_removed_file() -> None:
    device = FileEntry("character device", device=(1, 0))
    full = FileEntry("file", size=1, xattrs={"user.overlay.whiteout": b""})
    assert told({"a": device, "b": full}) == ["a character device", "b file"]


def test_hard_links() -> None:
    linked, alone = FileEntry("file", inode=2), FileEntry("file")
    found = told({"a": linked, "b": linked, "c": alone, "d": alone})
    assert found == ["a file", "b file a", "c file", "d file"]


@pytest.mark.parametrize("name", ["redirect", "metacopy"])
def test_an_upper_that_refers_to_lower_ones(name: str) -> None:
    entry = FileEntry("dir", xattrs={f"trusted.overlay.{name}": b"/x"})
    with pytest.raises(ForeignUpper, match=f"d: has the attribute overlay.{name}"):
        told({"d": entry})

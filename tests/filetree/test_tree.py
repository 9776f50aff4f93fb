from hypothesis import given
from hypothesis import strategies as st

from engine.filetree.entry import FileEntry
from engine.filetree.tree import EMPTY, Tree, order

DIR = FileEntry("dir")
FILE = FileEntry("file")
NAMES = st.text("ab-/\x01\udcffé", min_size=1, max_size=3).filter(lambda text: "/" not in text)
PATHS = st.lists(NAMES, max_size=3).map("/".join)


def test_a_directory_is_followed_by_what_is_in_it() -> None:
    paths = ["a-", "a", "b", "", "a/b", "a.", "a/b/c"]
    found = [path for path, _ in Tree(dict.fromkeys(paths, DIR)).items()]
    assert found == ["", "a", "a/b", "a/b/c", "a-", "a.", "b"]


@given(PATHS, PATHS)
def test_the_order_is_that_of_names_as_bytes(one: str, other: str) -> None:
    def names(path: str) -> list[bytes]:
        return [n.encode(errors="surrogateescape") for n in path.split("/")] if path else []

    assert (order(one) < order(other)) == (names(one) < names(other))


def test_paths_are_looked_up() -> None:
    tree = Tree({"": DIR, "f": FILE})
    assert tree["f"] is tree.get("f") is FILE
    assert "f" in tree
    assert "g" not in tree
    assert tree.get("g") is None
    assert (len(tree), len(EMPTY)) == (2, 0)


def test_the_names_in_a_directory() -> None:
    tree = Tree({"": DIR, "b": DIR, "a": FILE, "b/d": FILE, "b/c": DIR, "b/c/e": FILE})
    assert tree.children("") == ("a", "b")
    assert tree.children("b") == ("c", "d")
    assert tree.children("b/c") == ("e",)
    assert tree.children("a") == tree.children("none") == ()


def test_hard_links_are_told_together() -> None:
    def numbered(inode: int, kind: str = "file") -> FileEntry:
        return FileEntry(kind, inode=inode)

    entries = {
        "": numbered(1, "dir"),
        "z": numbered(2),
        "a": numbered(2),
        "s": numbered(3, "symlink"),
        "t": numbered(3, "symlink"),
        "alone": numbered(4),
        "unknown": FILE,
        "unknown too": FILE,
    }
    assert Tree(entries).links() == {2: ["a", "z"], 3: ["s", "t"]}

"""Changes between merged roots."""

import tarfile
import tracemalloc
from collections.abc import Iterable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.filetree.entry_tree import EntryTree
from engine.filetree.root_diff import RootChange, root_diff
from tests.filetree.layers import (
    Member,
    directory,
    file,
    hardlink,
    member,
    symlink,
    with_xattrs,
)
from tests.filetree.tables import built

_LETTERS = {"added": "A", "changed": "C", "deleted": "D"}


def changes(before: Iterable[Member], after: Iterable[Member]) -> list[RootChange]:
    return list(root_diff(built(before)[0], built(after)[0]))


def lines(before: Iterable[Member], after: Iterable[Member]) -> list[str]:
    return [f"{_LETTERS[c.kind]} {c.path.decode()}" for c in changes(before, after)]


def test_directories_above_a_change_are_changed() -> None:
    before = [directory("a/b/c"), file("a/b/c/same"), file("a/b!"), file("z")]
    after = [directory("a/b/c"), file("a/b/c/same"), file("a/b/c/new"), file("a/b!", "x")]
    assert lines(before, after) == ["C a", "C a/b", "C a/b/c", "A a/b/c/new", "C a/b!", "D z"]


def test_a_directory_is_removed_as_one_and_added_with_its_content() -> None:
    small = [directory("d")]
    large = [directory("d"), directory("d/e"), file("d/e/a", "12"), file("d/e/b", "345")]
    assert lines(small, large) == ["C d", "A d/e", "A d/e/a", "A d/e/b"]
    assert lines(large, small) == ["C d", "D d/e"]
    assert [(one.size_before, one.size) for one in changes(large, small)] == [(0, 0), (5, 0)]


def test_a_diff_keeps_the_way_to_one_change() -> None:
    """Neither the paths of all changes nor those of all entries of a directory."""
    deep = "d" * 255 + "/"
    before = [file(f"{n}/{deep * 15}f") for n in range(300)]
    before += [file(f"{deep * 15}{n}") for n in range(3000)]
    after = [file(one.name, "x") for one, _ in before]
    trees = built(before)[0], built(after)[0]
    tracemalloc.start()
    try:
        assert sum(1 for _ in root_diff(*trees)) == 300 * 17 + 15 + 3000
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 1 << 20


def test_another_type() -> None:
    tree = [directory("d"), file("d/a")]
    assert lines(tree, [file("d")]) == ["C d"]
    assert lines([file("d")], tree) == ["C d", "A d/a"]
    assert changes(tree, [file("d")])[0].differs == ("type",)


CAPABLE = {"security.capability": "1"}
DIFFERENCES: dict[str, tuple[Member, Member]] = {
    "mode": (file("x", mode=0o600), file("x", mode=0o4600)),
    "owner": (file("x"), file("x", gid=7)),
    "time": (file("x", mtime=1), file("x", mtime=2)),
    "content": (file("x", "one"), file("x", "two")),
    "size content": (file("x", "one"), file("x", "three")),
    "xattrs": (file("x"), with_xattrs("x", tarfile.REGTYPE, CAPABLE)),
    "link": (symlink("x", "a"), symlink("x", "b")),
    "device": (
        member("x", tarfile.CHRTYPE, devmajor=1, devminor=3),
        member("x", tarfile.CHRTYPE, devmajor=1, devminor=5),
    ),
    "": (directory("x", mtime=1), directory("x", mtime=2)),
    " ": (symlink("x", "a", mode=0o777), symlink("x", "a", mode=0o755)),
    "  ": (
        member("x", records={"mtime": "5.25"}),
        member("x", mtime=5),
    ),
}


@pytest.mark.parametrize(("differs", "pair"), DIFFERENCES.items())
def test_differences(differs: str, pair: tuple[Member, Member]) -> None:
    found = changes([pair[0]], [pair[1]])
    assert [one.differs for one in found] == ([tuple(differs.split())] if differs.strip() else [])


def test_hard_links_are_files() -> None:
    before = [file("a", "1"), hardlink("b", "a")]
    assert lines(before, [file("a", "1"), file("b", "1")]) == []
    assert lines(before, [file("a", "2"), hardlink("b", "a")]) == ["C a", "C b"]


def test_the_root_itself_is_no_change() -> None:
    assert lines([directory(".", mode=0o700)], [directory(".", mode=0o755)]) == []


NAMES = st.lists(st.sampled_from(["a", "b", "b!"]), min_size=1, max_size=4).map("/".join)
MEMBERS = st.one_of(
    st.builds(directory, NAMES, st.sampled_from([0o700, 0o755])),
    st.builds(file, NAMES, st.sampled_from(["", "x", "y"])),
    st.builds(symlink, NAMES.map(lambda name: f"s/{name}"), NAMES),
)
TREES = st.lists(MEMBERS, max_size=12)


@settings(deadline=None)
@given(TREES, TREES)
def test_random_trees(before: list[Member], after: list[Member]) -> None:
    old, new = built(before)[0], built(after)[0]
    found = {one.path: one.kind for one in root_diff(old, new)}
    assert found == model(old, new)
    assert list(found) == sorted(found, key=lambda path: path.replace(b"/", b"\0"))
    assert list(root_diff(old, old)) == []


def model(old: EntryTree, new: EntryTree) -> dict[bytes, str]:
    """Return what the rules of docker diff say, path by path."""
    before, after = ({path: node for path, node in tree.walk() if path} for tree in (old, new))
    found: dict[bytes, str] = {}
    for path in before.keys() | after.keys():
        above = path.rpartition(b"/")[0]
        if path not in before:
            found[path] = "added"
        elif path not in after:
            parent = new.find(above)
            if parent is not None and new.attributes(parent).kind == "dir":
                found[path] = "deleted"
        else:
            one, other = old.entry(before[path]), new.entry(after[path])
            facts = [(e.attributes, e.link, e.size, e.checksum) for e in (one, other)]
            if facts[0] != facts[1]:
                found[path] = "changed"
    for path in list(found):
        above = path.rpartition(b"/")[0]
        while above:
            found.setdefault(above, "changed")
            above = above.rpartition(b"/")[0]
    return found

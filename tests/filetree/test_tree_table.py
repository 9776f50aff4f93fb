"""The table of a tree says what the tree says, and comes back from its stored form."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.errors import BrokenArchive
from engine.filetree import tree_table_codec
from engine.filetree.entry_tree import EntryTree
from engine.filetree.tree_table import TreeTable, table_of
from tests.filetree.layers import Member, directory, file, hardlink, symlink
from tests.filetree.tables import built
from tests.filetree.test_tree_builder import some_layers

LAYERS = [
    [directory("d", mtime=-1), file("d/a", "one"), symlink("d/link", "a"), file("gone", "1")],
    [hardlink("d/b", "d/a"), file(".wh.gone"), file("new/x", "2"), hardlink("d/no", "nothing")],
]


def check(table: TreeTable, tree: EntryTree) -> None:
    assert len(table) == len(tree)
    for _, node in tree.walk():
        entry = tree.entry(node)
        assert table.place(node) == tree.place(node)
        assert table.shared_attributes(node) == entry.attributes
        assert table.mtime_ns(node) == entry.mtime_ns
        assert table.sizes[node] == entry.size
        assert table.targets[node] == entry.link
        assert table.is_opaque(node) == tree.is_opaque(node)
        assert table.children(node) == tree.children(node)
        for child in tree.children(node):
            name = tree.name(child)
            assert table.names[child] == name
            assert table.lookup(node, name) == child
            assert table.lookup(node, name + b"?") is None
            assert table.parent(child) == node
        if entry.attributes.kind != "dir":
            assert table.link_count(node) == tree.links(node)
    assert table.left_out == tree.left_out


@given(some_layers())
def test_a_table_says_what_its_tree_says(layers: list[list[Member]]) -> None:
    tree, changes = built(*layers)
    for one in (tree, *changes):
        check(table_of(one), one)


@given(some_layers())
def test_a_table_of_a_root_comes_back_from_its_stored_form(layers: list[list[Member]]) -> None:
    tree, _ = built(*layers)
    data = tree_table_codec.dump(table_of(tree))
    assert data == tree_table_codec.dump(table_of(tree))
    table = tree_table_codec.load(data)
    assert table is not None
    check(table, tree)


def test_the_root_is_its_own_parent() -> None:
    table = table_of(built(*LAYERS)[0])
    assert table.parent(0) == 0


def test_what_is_left_out_is_stored() -> None:
    tree, _ = built(*LAYERS)
    (left,) = tree.left_out
    assert left.path == b"d/no"
    table = tree_table_codec.load(tree_table_codec.dump(table_of(tree)))
    assert table is not None
    assert table.left_out == (left,)


STORED = tree_table_codec.dump(table_of(built(*LAYERS)[0]))


@given(st.integers(len(tree_table_codec.FORMAT.header), len(STORED) - 1), st.integers(1, 255))
def test_any_changed_byte_is_found(place: int, change: int) -> None:
    damaged = bytearray(STORED)
    damaged[place] ^= change
    with pytest.raises(BrokenArchive, match="is a damaged root table: expected the checksum"):
        tree_table_codec.load(bytes(damaged))


@pytest.mark.parametrize("data", [b"", b"imgfs layer table \0\1", b"imgfs root table \0\0xxxx"])
def test_another_document_is_no_table(data: bytes) -> None:
    assert tree_table_codec.load(data) is None

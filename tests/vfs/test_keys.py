"""The inode numbers of what never changes tell what they stand for."""

from hypothesis import given
from hypothesis import strategies as st

from engine.spec.digest import of_bytes
from imgfs.vfs import keys

NAMES = st.text(max_size=20)
DIGESTS = st.builds(lambda data: str(of_bytes(data)), st.binary(max_size=9))


@given(NAMES, st.integers(0, (1 << 21) - 1), st.integers(0, 3))
def test_a_node_of_a_tree(name: str, node: int, steps: int) -> None:
    root = keys.TreeKey(name).number
    for _ in range(steps):
        root = keys.next_tree(root)
    number = root | node
    assert number < 1 << 63
    assert number & keys.CONSTANT
    assert keys.is_in_tree(number)
    assert (keys.tree_of(number), keys.node_of(number)) == (root, node)


@given(DIGESTS, st.integers(0, (1 << 24) - 1), st.integers(1, 1000), st.integers(0, 3))
def test_an_entry_of_a_layer(digest: str, index: int, links: int, steps: int) -> None:
    layer = keys.layer_number(digest)
    for _ in range(steps):
        layer = keys.next_layer(layer)
    number = keys.entry_number(layer, index, links)
    assert number < 1 << 63
    assert number & keys.CONSTANT
    assert not keys.is_in_tree(number)
    assert (keys.layer_of(number), keys.index_of(number)) == (layer, index)
    assert keys.links_of(number) == min(links, keys.MOST_LINKS)


@given(NAMES)
def test_numbers_to_try_differ(name: str) -> None:
    tree, layer = keys.TreeKey(name).number, keys.layer_number(str(of_bytes(name.encode())))
    assert len({tree, keys.next_tree(tree), keys.next_tree(keys.next_tree(tree))}) == 3
    assert len({layer, keys.next_layer(layer), keys.next_layer(keys.next_layer(layer))}) == 3

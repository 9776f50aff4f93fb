"""The table of a tree: its names and attributes as columns, without the tables of its layers.

What a look at a tree needs is in some 60 bytes a node. The content of files is in the layers.
"""

from array import array
from bisect import bisect_right
from collections.abc import Mapping

import msgspec

from engine.filetree.entry_tree import (
    IMPLICIT,
    ROOT,
    SPECIAL,
    WHITED_OUT,
    EntryTree,
    LeftOut,
    Nodes,
    index_of,
    layer_of,
)
from engine.layers.table import Attributes, Texts
from engine.units import NS_PER_SECOND


class TreeTable(Nodes, msgspec.Struct, frozen=True):
    """The nodes of an `EntryTree`, by the same numbers; safe from any thread.

    `attributes` are positions in `shared`, and `targets` those of symlinks. `links` counts the
    nodes that have the place of a node, if there are several.
    """

    names: Texts
    first: "array[int]"
    shown: "array[int]"
    shared: tuple[Attributes, ...]
    attributes: "array[int]"
    seconds: "array[int]"
    nanoseconds: "array[int]"
    sizes: "array[int]"
    targets: Texts
    links: Mapping[int, int]
    opaque: frozenset[int]
    left_out: tuple[LeftOut, ...]

    def name(self, node: int) -> bytes:
        return self.names[node]

    def parent(self, node: int) -> int:
        """Return the directory that a node is in; the root is its own parent."""
        return bisect_right(self.first, node) - 1 if node else ROOT

    def shared_attributes(self, node: int) -> Attributes:
        """Return the attributes of a node that many share."""
        return self.shared[self.attributes[node]]

    def mtime_ns(self, node: int) -> int:
        """Return the time of a node in nanoseconds since the epoch."""
        return self.seconds[node] * NS_PER_SECOND + self.nanoseconds[node]

    def link_count(self, node: int) -> int:
        """Return how many nodes have the place of this node, which is no directory."""
        return self.links.get(node, 1)


def table_of(tree: EntryTree) -> TreeTable:
    """Return the table of a tree."""
    shared = [SPECIAL[reference].attributes for reference in (IMPLICIT, WHITED_OUT)]
    known: list[dict[int, int]] = [{} for _ in tree.tables]
    attributes, nanoseconds = array("I"), array("I")
    seconds, sizes = array("q"), array("q")
    targets: list[bytes] = []
    for reference in tree.shown:
        if reference >= WHITED_OUT:
            attributes.append(reference != IMPLICIT)
            seconds.append(0)
            nanoseconds.append(0)
            sizes.append(0)
            targets.append(b"")
            continue
        layer, index = layer_of(reference), index_of(reference)
        table = tree.tables[layer]
        assert table is not None
        own = table.attributes[index]
        place = known[layer].get(own)
        if place is None:
            place = known[layer][own] = len(shared)
            shared.append(table.shared[own])
        attributes.append(place)
        seconds.append(table.seconds[index])
        nanoseconds.append(table.nanoseconds[index])
        sizes.append(table.sizes[index])
        targets.append(table.links[index])
    return TreeTable(
        names=Texts.of([tree.name(node) for node in range(len(tree))]),
        first=tree.first,
        shown=tree.shown,
        shared=tuple(shared),
        attributes=attributes,
        seconds=seconds,
        nanoseconds=nanoseconds,
        sizes=sizes,
        targets=Texts.of(targets),
        links={node: tree.links(node) for node in tree.linked()},
        opaque=tree.opaque,
        left_out=tree.left_out,
    )

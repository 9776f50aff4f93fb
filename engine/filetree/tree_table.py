"""The table of a tree: its names and attributes as columns, without the tables of its layers.

What a look at a tree needs is in some 60 bytes a node. The content of files is in the layers.
"""

from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Mapping
from typing import Final

import msgspec

from engine.filetree.entry_tree import (
    IMPLICIT,
    ROOT,
    WHITED_OUT,
    EntryTree,
    LeftOut,
    Place,
    index_of,
    layer_of,
)
from engine.layers.table import Attributes, Texts
from engine.units import NS_PER_SECOND

_SPECIAL: Final = (Attributes("dir", 0o755, 0, 0), Attributes("character device", 0, 0, 0))
"""Attributes of a directory that no layer lists, and of a whiteout."""


class TreeTable(msgspec.Struct, frozen=True):
    """The nodes of an `EntryTree`, by the same numbers; safe from any thread.

    `first` is the first child of each node, with the end of the last one's children behind it.
    `places` are references of entries as `entry_tree.reference` makes them, `attributes` positions
    in `shared`, and `targets` those of symlinks. `links` counts the nodes that have the place of a
    node, if there are several.
    """

    names: Texts
    first: "array[int]"
    places: "array[int]"
    shared: tuple[Attributes, ...]
    attributes: "array[int]"
    seconds: "array[int]"
    nanoseconds: "array[int]"
    sizes: "array[int]"
    targets: Texts
    links: Mapping[int, int]
    opaque: frozenset[int]
    left_out: tuple[LeftOut, ...]

    def __len__(self) -> int:
        return len(self.places)

    def lookup(self, directory: int, name: bytes) -> int | None:
        """Return the child of that name; None also if the node is no directory."""
        nodes = self.children(directory)
        names = self.names
        place = bisect_left(nodes, name, key=names.__getitem__)
        return nodes[place] if place < len(nodes) and names[nodes[place]] == name else None

    def children(self, directory: int) -> range:
        """Return the nodes in a directory, sorted by name (as bytes)."""
        return range(self.first[directory], self.first[directory + 1])

    def parent(self, node: int) -> int:
        """Return the directory that a node is in; the root is its own parent."""
        return bisect_right(self.first, node) - 1 if node else ROOT

    def place(self, node: int) -> Place | None:
        """Return where a node comes from, as `EntryTree.place`."""
        found = self.places[node]
        return None if found >= WHITED_OUT else Place(layer_of(found), index_of(found))

    def shared_attributes(self, node: int) -> Attributes:
        """Return the attributes of a node that many share."""
        return self.shared[self.attributes[node]]

    def mtime_ns(self, node: int) -> int:
        """Return the time of a node in nanoseconds since the epoch."""
        return self.seconds[node] * NS_PER_SECOND + self.nanoseconds[node]

    def link_count(self, node: int) -> int:
        """Return how many nodes have the place of this node, which is no directory."""
        return self.links.get(node, 1)

    def is_opaque(self, node: int) -> bool:
        """Return whether a directory of a layer hides all that lower layers have in it."""
        return node in self.opaque


def table_of(tree: EntryTree) -> TreeTable:
    """Return the table of a tree."""
    shared: list[Attributes] = list(_SPECIAL)
    known: list[dict[int, int]] = [{} for _ in tree.tables]
    attributes, nanoseconds, ends = array("I"), array("I"), array("I")
    seconds, sizes = array("q"), array("q")
    targets: list[bytes] = []
    end = 0
    for reference in tree.shown:
        if reference >= WHITED_OUT:
            attributes.append(reference != IMPLICIT)
            seconds.append(0)
            nanoseconds.append(0)
            sizes.append(0)
        else:
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
            ends_of = table.links.ends
            start = ends_of[index - 1] if index else 0
            if start < (stop := ends_of[index]):
                target = table.links.joined[start:stop]
                targets.append(target)
                end += len(target)
        ends.append(end)
    return TreeTable(
        names=_texts([tree.name(node) for node in range(len(tree))]),
        first=tree.first,
        places=tree.shown,
        shared=tuple(shared),
        attributes=attributes,
        seconds=seconds,
        nanoseconds=nanoseconds,
        sizes=sizes,
        targets=Texts(b"".join(targets), ends),
        links={node: tree.links(node) for node in tree.linked()},
        opaque=tree.opaque,
        left_out=tree.left_out,
    )


def _texts(texts: list[bytes]) -> Texts:
    ends = array("I")
    end = 0
    for text in texts:
        end += len(text)
        ends.append(end)
    return Texts(b"".join(texts), ends)

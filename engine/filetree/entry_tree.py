"""A frozen tree of directories whose nodes are entries of layers.

A node is a number; ROOT is the root. The tree keeps 24 bytes a node: names are read out of the
tables of the layers. Safe from any thread.
"""

from array import array
from bisect import bisect_left
from collections.abc import Iterator, Mapping, Sequence
from typing import Final

import msgspec

from engine.errors import printable
from engine.layers.table import Attributes, Entry, LayerTable

ROOT: Final = 0
_ENTRY_BITS: Final = 32
_ENTRY: Final = (1 << _ENTRY_BITS) - 1
_MAX_LEFT_OUT: Final = 1000
IMPLICIT: Final = (1 << 64) - 1
"""The reference of a directory that no layer lists."""
WHITED_OUT: Final = IMPLICIT - 1
"""The reference of an overlayfs whiteout."""


class LeftOut(msgspec.Struct, frozen=True):
    """Something that a tree does not show: `path` in layer number `layer`, and the reason.

    `path` is "" for the whole layer, or for the rest of it.
    """

    layer: int
    path: bytes
    reason: str

    def __str__(self) -> str:
        path = printable(self.path.decode("utf-8", "surrogateescape"))
        return f"layer {self.layer:02}: {path + ': ' if path else ''}{self.reason}"


class Omissions:
    """The entries that are left out, in order: the first thousand, and how many more there are."""

    def __init__(self) -> None:
        self._first: list[LeftOut] = []
        self._more = 0

    def add(self, left: LeftOut) -> None:
        if len(self._first) < _MAX_LEFT_OUT:
            self._first.append(left)
        else:
            self._more += 1

    def until(self, layer: int) -> tuple[LeftOut, ...]:
        """Return all so far, of which `layer` is the last layer that was looked at."""
        if not self._more:
            return tuple(self._first)
        return (*self._first, LeftOut(layer, b"", f"{self._more} more entries are left out"))


class Place(msgspec.Struct, frozen=True, gc=False):
    """The entry number `index` of layer number `layer`, counted from the lowest."""

    layer: int
    index: int


def reference(layer: int, index: int) -> int:
    """Return the number that refers to an entry of a layer."""
    return layer << _ENTRY_BITS | index


def layer_of(reference: int) -> int:
    """Return the number of the layer of an entry."""
    return reference >> _ENTRY_BITS


def index_of(reference: int) -> int:
    """Return the number of an entry in its layer."""
    return reference & _ENTRY


class Nodes:
    """The nodes of a tree, breadth first: the children of a directory follow one another, sorted by
    name.

    `first` is the first child of each node, with the end of the last one's children behind it;
    `shown` refers to the entry whose attributes and content a node has.
    """

    __slots__ = ()
    first: "array[int]"
    shown: "array[int]"
    opaque: frozenset[int]

    def __len__(self) -> int:
        return len(self.shown)

    def name(self, node: int) -> bytes:
        """Return the last part of a node's path, b"" for the root."""
        raise NotImplementedError

    def lookup(self, directory: int, name: bytes) -> int | None:
        """Return the child of that name; None also if the node is no directory."""
        nodes = self.children(directory)
        place = bisect_left(nodes, name, key=self.name)
        return nodes[place] if place < len(nodes) and self.name(nodes[place]) == name else None

    def children(self, directory: int) -> range:
        """Return the nodes in a directory, sorted by name (as bytes)."""
        return range(self.first[directory], self.first[directory + 1])

    def place(self, node: int) -> Place | None:
        """Return where the attributes and the content of a node come from.

        Hard links have the same place. None for a directory that no layer lists, which belongs to
        root with mode 0755 and the epoch as its time, and for a whiteout.
        """
        found = self.shown[node]
        return None if found >= WHITED_OUT else Place(layer_of(found), index_of(found))

    def is_opaque(self, node: int) -> bool:
        """Return whether a directory of a layer hides all that lower layers have in it."""
        return node in self.opaque


class EntryTree(Nodes):
    """A tree whose names and attributes are read out of the tables of its layers."""

    def __init__(
        self,
        tables: Sequence[LayerTable | None],
        named: "array[int]",
        shown: "array[int]",
        first: "array[int]",
        anonymous: Mapping[int, bytes],
        opaque: frozenset[int],
        links: Mapping[int, int],
        left_out: tuple[LeftOut, ...],
    ) -> None:
        """Take the columns that `growing_tree.frozen` makes.

        `named` refers to the entry that names a node, and `shown` to the target for a hard link.
        `anonymous` names the nodes that refer to no entry; `links` counts the nodes that refer to
        the target of a hard link.
        """
        self.tables = tables
        self._named = named
        self.shown = shown
        self.first = first
        self._anonymous = anonymous
        self.opaque = opaque
        self._links = links
        self.left_out = left_out
        """The entries that the tree does not show, in the order of the layers."""

    def find(self, path: bytes) -> int | None:
        """Return the node at a path relative to the root, without following symlinks."""
        node: int | None = ROOT
        for name in filter(None, path.split(b"/")):
            if node is None:
                return None
            node = self.lookup(node, name)
        return node

    def name(self, node: int) -> bytes:
        found = self._named[node]
        if found >= WHITED_OUT:
            return self._anonymous[node]
        return self._table(found).paths[index_of(found)].rpartition(b"/")[2]

    def entry(self, node: int) -> Entry:
        """Return the attributes of a node; its `path` is that of its place."""
        found = self.shown[node]
        if found >= WHITED_OUT:
            return SPECIAL[found]
        return self._table(found).entry(index_of(found))

    def attributes(self, node: int) -> Attributes:
        """Return the attributes of a node that many entries share, which costs less."""
        found = self.shown[node]
        if found >= WHITED_OUT:
            return SPECIAL[found].attributes
        table = self._table(found)
        return table.shared[table.attributes[index_of(found)]]

    def links(self, node: int) -> int:
        """Return how many nodes have the place of this node, which is no directory."""
        return self._links.get(self.shown[node], 1)

    def linked(self) -> Iterator[int]:
        """Yield the nodes of which `links` returns more than one."""
        if self._links:
            links = self._links
            yield from (n for n, found in enumerate(self.shown) if links.get(found, 1) > 1)

    def walk(self, path: bytes = b"", node: int = ROOT) -> Iterator[tuple[bytes, int]]:
        """Yield each path with its node, in the order in which a directory precedes its content.

        Begin at `node`, by default the root, whose path is `path`.
        """
        yield path, node
        way = [(path + b"/" if path else b"", iter(self.children(node)))]
        while way:
            prefix, nodes = way[-1]
            for child in nodes:
                path = prefix + self.name(child)
                yield path, child
                if below := self.children(child):
                    way.append((path + b"/", iter(below)))
                    break
            else:
                way.pop()

    def _table(self, found: int) -> LayerTable:
        table = self.tables[layer_of(found)]
        assert table is not None
        return table


SPECIAL: Final = {
    IMPLICIT: Entry(b"", Attributes("dir", 0o755, 0, 0), 0, 0, b"", 0),
    WHITED_OUT: Entry(b"", Attributes("character device", 0, 0, 0), 0, 0, b"", 0),
}
"""The entries of nodes that refer to none."""

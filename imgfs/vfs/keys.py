"""The keys of nodes, and the inode numbers of what never changes.

A node of an image's tree, or an entry of a layer, has a number that tells what it is. So the mount
need not remember which of them the kernel knows:

    node of a tree     CONSTANT | TREE | hash of the tree (40 bits) | node (21 bits)
    entry of a layer   CONSTANT | links (8 bits) | hash of the layer (29 bits) | entry (24 bits)

`imgfs/fuse/native/trees.c` makes the same numbers.
"""

from typing import Final

import msgspec

from engine.image import TreeEntry
from engine.spec.digest import of_bytes

CONSTANT: Final = 1 << 62
"""Marks the number of a node whose content and names never change."""
TREE: Final = 1 << 61
"""Marks the number of a node of a tree."""
_IN_TREE: Final = CONSTANT | TREE
MOST_LINKS: Final = 255
"""Stands for this number of links or more."""
_NODE_BITS: Final = 21
_NODES: Final = (1 << _NODE_BITS) - 1
_TREES: Final = ((1 << 40) - 1) << _NODE_BITS
_ENTRY_BITS: Final = 24
_ENTRIES: Final = (1 << _ENTRY_BITS) - 1
_LAYERS: Final = ((1 << 29) - 1) << _ENTRY_BITS
_LINKS_SHIFT: Final = 53


class TreeKey(msgspec.Struct, frozen=True):
    """The key of the root of a tree; equal names stand for equal trees."""

    name: str

    @property
    def number(self) -> int:
        """The number that a tree gets if no other one has it."""
        return CONSTANT | TREE | _hash(of_bytes(self.name.encode())) << _NODE_BITS & _TREES


class NodeKey(msgspec.Struct, frozen=True, gc=False):
    """The key of another node of a tree."""

    tree: TreeKey
    node: int


class EntryKey(msgspec.Struct, frozen=True, gc=False):
    """The key of an entry of a layer, which is the same in all images."""

    number: int


Key = str | TreeEntry | TreeKey | NodeKey | EntryKey
"""A string, or the place of an image, of what can change; else one of the keys above."""


def next_tree(number: int) -> int:
    """Return the number to try when another tree has this one."""
    return CONSTANT | TREE | (number + _NODES + 1) & _TREES


def is_in_tree(number: int) -> bool:
    """Return whether an inode number is that of a node of a tree."""
    return number & _IN_TREE == _IN_TREE


def tree_of(number: int) -> int:
    """Return the number of the root of the tree that a node is in."""
    return number & ~_NODES


def node_of(number: int) -> int:
    """Return the node that the number of a node of a tree stands for."""
    return number & _NODES


def layer_number(digest: str) -> int:
    """Return the number that a layer gets if no other one has it: that of its entry 0 without
    links.
    """
    return CONSTANT | _hash(digest) << _ENTRY_BITS & _LAYERS


def next_layer(number: int) -> int:
    """Return the number to try when another layer has this one."""
    return CONSTANT | (number + _ENTRIES + 1) & _LAYERS


def entry_number(layer: int, index: int, links: int) -> int:
    """Return the number of an entry of the layer with a number."""
    return layer | min(links, MOST_LINKS) << _LINKS_SHIFT | index


def layer_of(number: int) -> int:
    """Return the number of the layer that an entry is in."""
    return number & (CONSTANT | _LAYERS)


def index_of(number: int) -> int:
    """Return the number of an entry in its layer."""
    return number & _ENTRIES


def links_of(number: int) -> int:
    """Return the links of an entry, MOST_LINKS for that many or more."""
    return number >> _LINKS_SHIFT & MOST_LINKS


def _hash(digest: str) -> int:
    return int(digest.rpartition(":")[2][:16], 16)

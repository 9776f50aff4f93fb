"""Inode numbers and the kernel's lookup counts. Call this from the event loop only.

An inode number is computed from the node's key, so that it is the same after a remount. A node is
kept until the kernel has forgotten all of its lookups. What is in the trees of images is not kept,
since its number tells what it is (`imgfs.vfs.keys`).
"""

import hashlib
from typing import Protocol

import msgspec

from imgfs.vfs import keys
from imgfs.vfs.keys import CONSTANT, EntryKey, Key, NodeKey, TreeKey
from imgfs.vfs.nodes import Node
from imgfs.vfs.root_names import ImageRoot

ROOT = 1


class LayerEntries(Protocol):
    """The entries of layers, by their inode numbers."""

    def entry(self, number: int) -> Node:
        """Return an entry; raise KeyError if there is none, EngineError or OSError."""
        ...

    def is_entry_at_hand(self, number: int) -> bool:
        """Return whether `entry` returns, or raises KeyError, at once."""
        ...


class _Entry(msgspec.Struct, gc=False):
    node: Node
    lookups: int
    parent: int = ROOT
    generation: int = 0


class Inodes:
    """The nodes that the kernel knows."""

    def __init__(self, root: Node, entries: LayerEntries) -> None:
        self._known = {ROOT: _Entry(root, 1)}
        self._entries = entries
        self._root_key = root.key

    def number(self, key: Key) -> int:
        """Return the inode number of a key, whether the kernel knows it or not."""
        if isinstance(key, EntryKey):
            return key.number
        if isinstance(key, NodeKey):
            return self.number(key.tree) | key.node
        if key == self._root_key:
            return ROOT
        if isinstance(key, TreeKey):
            number = key.number
            while self._is_of_another(number, key):
                number = keys.next_tree(number)
            return number
        number = _hash(key) if isinstance(key, str) else key.number
        while number <= ROOT or self._is_of_another(number, key):
            number += 1
        return number

    def known(self, key: Key) -> int | None:
        """Return the inode number of a key if the kernel knows it, else None."""
        number = self.number(key)
        return number if number in self._known else None

    def look_up(self, node: Node, parent: int = ROOT) -> int:
        """Count one lookup of a node in the directory `parent`, and return its inode number. Call
        this before the node is sent to the kernel.
        """
        key = node.key
        number = self.number(key)
        if isinstance(key, EntryKey | NodeKey):
            return number
        entry = self._known.get(number)
        if entry is None:
            self._known[number] = _Entry(node, 1, parent)
        else:
            entry.lookups += 1
        return number

    def is_at_hand(self, number: int) -> bool:
        """Return whether `get` returns, or raises KeyError, at once."""
        if number in self._known or not number & CONSTANT:
            return True
        if not keys.is_in_tree(number):
            return self._entries.is_entry_at_hand(number)
        known = self._known.get(keys.tree_of(number))
        return known is None or self.tree(number).source.is_made()

    def get(self, number: int) -> Node:
        """Return the node with a number.

        Raise KeyError if the kernel does not know it, and EngineError or OSError if it is in an
        image or a layer that cannot be read any more.
        """
        known = self._known.get(number)
        if known is not None:
            return known.node
        if not number & CONSTANT:
            raise KeyError(number)
        if keys.is_in_tree(number):
            return self.tree(number).node(keys.node_of(number))
        return self._entries.entry(number)

    def parent(self, number: int) -> int:
        """Return the inode number of the directory in which a node was first looked up."""
        known = self._known.get(number)
        if known is not None:
            return known.parent
        tree = self.tree(number).shown().tree
        return keys.tree_of(number) | tree.parent(keys.node_of(number))

    def generation(self, number: int) -> int:
        """Return the generation of an inode number, which changes when a directory is retired."""
        known = self._known.get(number)
        return known.generation if known else 0

    def retire(self, key: Key) -> None:
        """Change the generation of a removed directory. A later directory with the same key is then
        a different inode to the kernel, which marks the removed one as dead while it is in use.
        """
        if (number := self.known(key)) is not None:
            self._known[number].generation += 1

    def forget(self, number: int, count: int) -> bool:
        """Subtract `count` lookups; return whether those were the last."""
        entry = self._known.get(number)
        if entry is None or number == ROOT:
            return False
        entry.lookups -= count
        if entry.lookups > 0:
            return False
        del self._known[number]
        return True

    def nodes(self) -> list[tuple[int, Node]]:
        """Return the number and node of each inode that is kept."""
        return [(number, entry.node) for number, entry in self._known.items()]

    def tree(self, number: int) -> ImageRoot:
        """Return the root of the tree that a node is in; raise KeyError if the kernel does not know
        it.
        """
        root = self._known[keys.tree_of(number)].node
        assert isinstance(root, ImageRoot)
        return root

    def _is_of_another(self, number: int, key: Key) -> bool:
        entry = self._known.get(number)
        return entry is not None and entry.node.key != key

    def __len__(self) -> int:
        return len(self._known)


def _hash(key: str) -> int:
    text = key.encode(errors="surrogateescape")
    return int.from_bytes(hashlib.blake2b(text, digest_size=8).digest()) >> 2

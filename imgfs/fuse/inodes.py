"""Inode numbers and the kernel's lookup counts. Call this from the event loop only.

An inode number is computed from the node's key, so that it is the same after a remount. A node is
kept until the kernel has forgotten all of its lookups.
"""

import hashlib

import msgspec

from imgfs.vfs.nodes import Key, Node

ROOT = 1


class _Entry(msgspec.Struct, gc=False):
    node: Node
    lookups: int
    parent: int = ROOT
    generation: int = 0


class Inodes:
    """The nodes that the kernel knows."""

    def __init__(self, root: Node) -> None:
        self._entries = {ROOT: _Entry(root, 1)}
        self._root_key = root.key

    def number(self, key: Key) -> int:
        """Return the inode number of a key, whether the kernel knows it or not."""
        if key == self._root_key:
            return ROOT
        number = _hash(key) if isinstance(key, str) else key.number
        while number <= ROOT or self._is_of_another(number, key):
            number += 1
        return number

    def known(self, key: Key) -> int | None:
        """Return the inode number of a key if the kernel knows it, else None."""
        number = self.number(key)
        return number if number in self._entries else None

    def look_up(self, node: Node, parent: int = ROOT) -> int:
        """Count one lookup of a node in the directory `parent`, and return its inode number. Call
        this before the node is sent to the kernel.
        """
        number = self.number(node.key)
        entry = self._entries.get(number)
        if entry is None:
            self._entries[number] = _Entry(node, 1, parent)
        else:
            entry.lookups += 1
        return number

    def get(self, number: int) -> Node:
        """Return the node with a number; raise KeyError if the kernel does not know it."""
        return self._entries[number].node

    def parent(self, number: int) -> int:
        """Return the inode number of the directory in which a node was first looked up."""
        return self._entries[number].parent

    def generation(self, number: int) -> int:
        """Return the generation of an inode number, which changes when a directory is retired."""
        return self._entries[number].generation

    def retire(self, key: Key) -> None:
        """Change the generation of a removed directory. A later directory with the same key is then
        a different inode to the kernel, which marks the removed one as dead while it is in use.
        """
        if (number := self.known(key)) is not None:
            self._entries[number].generation += 1

    def forget(self, number: int, count: int) -> bool:
        """Subtract `count` lookups; return whether those were the last."""
        entry = self._entries.get(number)
        if entry is None or number == ROOT:
            return False
        entry.lookups -= count
        if entry.lookups > 0:
            return False
        del self._entries[number]
        return True

    def nodes(self) -> list[tuple[int, Node]]:
        """Return the number and node of each inode that the kernel knows."""
        return [(number, entry.node) for number, entry in self._entries.items()]

    def _is_of_another(self, number: int, key: Key) -> bool:
        entry = self._entries.get(number)
        return entry is not None and entry.node.key != key

    def __len__(self) -> int:
        return len(self._entries)


def _hash(key: str) -> int:
    text = key.encode(errors="surrogateescape")
    return int.from_bytes(hashlib.blake2b(text, digest_size=8).digest()) >> 2

"""Inode numbers and the kernel's lookup counts. One event loop calls this; there is no await in it.

A number is made from the node's key, so that it is the same after a remount. A node is held as long
as the kernel may ask for it, and no longer: at zero lookups it is forgotten.
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
        """The inode number that a key has, or would have."""
        if key == self._root_key:
            return ROOT
        number = _hash(key) if isinstance(key, str) else key.number
        while number <= ROOT or self._is_of_another(number, key):
            number += 1
        return number

    def known(self, key: Key) -> int | None:
        """The inode number of a key that the kernel knows."""
        number = self.number(key)
        return number if number in self._entries else None

    def look_up(self, node: Node, parent: int = ROOT) -> int:
        """Count one lookup of a node that is about to be told to the kernel, in the directory
        `parent`; its inode number.
        """
        number = self.number(node.key)
        entry = self._entries.get(number)
        if entry is None:
            self._entries[number] = _Entry(node, 1, parent)
        else:
            entry.lookups += 1
        return number

    def get(self, number: int) -> Node:
        """The node of a number that the kernel holds; KeyError."""
        return self._entries[number].node

    def parent(self, number: int) -> int:
        """The inode number of the directory in which a directory was looked up."""
        return self._entries[number].parent

    def generation(self, number: int) -> int:
        """Which of those that the kernel has known by a number is told to it now."""
        return self._entries[number].generation

    def retire(self, key: Key) -> None:
        """The kernel was told that a directory is removed: one of the same key that comes later is
        another to it, so that whoever still holds the old one does not make the new one unusable.
        """
        if (number := self.known(key)) is not None:
            self._entries[number].generation += 1

    def forget(self, number: int, count: int) -> bool:
        """The kernel gives back `count` lookups; whether those were the last."""
        entry = self._entries.get(number)
        if entry is None or number == ROOT:
            return False
        entry.lookups -= count
        if entry.lookups > 0:
            return False
        del self._entries[number]
        return True

    def nodes(self) -> list[tuple[int, Node]]:
        """Every node that the kernel knows, with its number."""
        return [(number, entry.node) for number, entry in self._entries.items()]

    def _is_of_another(self, number: int, key: Key) -> bool:
        entry = self._entries.get(number)
        return entry is not None and entry.node.key != key

    def __len__(self) -> int:
        return len(self._entries)


def _hash(key: str) -> int:
    text = key.encode(errors="surrogateescape")
    return int.from_bytes(hashlib.blake2b(text, digest_size=8).digest()) >> 1

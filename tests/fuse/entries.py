"""Entries of layers for tests that have no layers."""

from imgfs.fuse.inodes import Inodes
from imgfs.vfs.nodes import Node


class NoEntries:
    def entry(self, number: int) -> Node:
        raise KeyError(number)

    def is_entry_at_hand(self, _number: int) -> bool:
        return True


def inodes(root: Node) -> Inodes:
    """Return what a kernel knows that has seen a root alone."""
    return Inodes(root, NoEntries())

"""Open directories, one object for each FUSE directory handle."""

from collections.abc import Mapping, Sequence
from typing import Final

import msgspec

from imgfs.vfs.nodes import Attributes, Directory, Node

DOTS: Final = 2
"""The number of entries before the children in each listing: `.` and `..`."""


class Listing(msgspec.Struct, frozen=True):
    """The children that a directory has at a version of the store, with the attributes of those
    that are remote.
    """

    version: int | None
    children: Sequence[tuple[str, Node]]
    remote: Mapping[str, Attributes]

    def attributes(self, name: str, node: Node) -> Attributes:
        """Return the attributes of a child, without waiting for the network."""
        return self.remote.get(name) or node.attributes()


class OpenDirectory(msgspec.Struct):
    """A directory that is being listed: its inode number, its parent's, and the process that has
    opened it.
    """

    inode: int
    parent: int
    directory: Directory
    pid: int
    listing: Listing
    was_read: bool = False

    def is_old(self) -> bool:
        """Return whether the directory has to be listed anew before it is read from its start: if
        something has changed, or if it was read before (`rewinddir`) and listing does not block.
        """
        if self.directory.version() != self.listing.version:
            return True
        return self.was_read and not self.directory.may_block(None)

    def dots(self) -> tuple[tuple[bytes, int], tuple[bytes, int]]:
        """Return the names and inode numbers of the entries before the children."""
        return (b".", self.inode), (b"..", self.parent)


def listed(directory: Directory) -> Sequence[tuple[str, Node]]:
    """Return the children of a directory."""
    children = directory.children()
    return children if isinstance(children, Sequence) else list(children)

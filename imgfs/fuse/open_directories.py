"""Open directories, one object for each FUSE directory handle."""

from collections.abc import Mapping, Sequence
from typing import Final

import msgspec

from imgfs.vfs.nodes import Attributes, Directory, Node

DOTS: Final = 2
"""The number of entries before the children in each listing: `.` and `..`."""


class OpenDirectory(msgspec.Struct):
    """A directory that is being listed: its inode number, its parent's, and the children that it
    had at a version of the store, with the attributes of those that are remote.
    """

    inode: int
    parent: int
    directory: Directory
    version: int | None
    children: Sequence[tuple[str, Node]]
    remote: Mapping[str, Attributes]
    was_read: bool = False

    def begin(self) -> None:
        """Start to list the directory, anew if it was read before (`rewinddir`) or something has
        changed since it was opened.

        Keep the children where listing may block: in a repository, where they are those of one
        layout, and in directories that are remote.
        """
        is_old = self.was_read or self.directory.version() != self.version
        if is_old and not self.directory.may_block(None):
            self.version = self.directory.version()
            self.children = listed(self.directory)
        self.was_read = True

    def attributes(self, name: str, node: Node) -> Attributes:
        """Return the attributes of a child, without waiting for the network."""
        return self.remote.get(name) or node.attributes()

    def dots(self) -> tuple[tuple[bytes, int], tuple[bytes, int]]:
        """Return the names and inode numbers of the entries before the children."""
        return (b".", self.inode), (b"..", self.parent)


def listed(directory: Directory) -> Sequence[tuple[str, Node]]:
    """Return the children of a directory."""
    children = directory.children()
    return children if isinstance(children, Sequence) else list(children)

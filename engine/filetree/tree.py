"""An immutable tree of files, as a mapping of paths to entries.

Paths are normalized and relative ("etc/passwd"); "" is the root. Iteration is in one order, in
which a directory precedes everything below it and names are compared as bytes.
"""

from collections import Counter
from collections.abc import Iterator, Mapping
from functools import cached_property

from engine.filetree.entry import FileEntry


def order(path: str) -> bytes:
    """Return the sort key of a path: NUL, which no name contains, replaces the slashes."""
    return path.replace("/", "\0").encode("utf-8", "surrogateescape")


class Tree:
    """The entries of a tree by their paths."""

    def __init__(self, entries: Mapping[str, FileEntry]) -> None:
        """`entries` must contain the parent directories of every entry."""
        self._entries = {path: entries[path] for path in sorted(entries, key=order)}

    def __getitem__(self, path: str) -> FileEntry:
        return self._entries[path]

    def __contains__(self, path: str) -> bool:
        return path in self._entries

    def __len__(self) -> int:
        return len(self._entries)

    def get(self, path: str) -> FileEntry | None:
        return self._entries.get(path)

    def items(self) -> Iterator[tuple[str, FileEntry]]:
        """Return the pairs of path and entry in order, the root first."""
        return iter(self._entries.items())

    def children(self, path: str) -> tuple[str, ...]:
        """Return the names in a directory, in order."""
        return self._children.get(path, ())

    def links(self) -> dict[int, list[str]]:
        """Return the inodes with several paths, each with its paths in order."""
        counted = Counter(entry.inode for entry in self._entries.values() if entry.kind != "dir")
        groups: dict[int, list[str]] = {
            inode: [] for inode, count in counted.items() if inode and count > 1
        }
        for path, entry in self._entries.items() if groups else ():
            if entry.inode in groups:
                groups[entry.inode].append(path)
        return groups

    @cached_property
    def _children(self) -> dict[str, tuple[str, ...]]:
        names: dict[str, list[str]] = {}
        for path in self._entries:
            if path:
                above, _, name = path.rpartition("/")
                names.setdefault(above, []).append(name)
        return {path: tuple(found) for path, found in names.items()}


EMPTY = Tree({})

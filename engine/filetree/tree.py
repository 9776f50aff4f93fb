"""A tree of files, frozen: paths → entries.

Paths are clean and relative ("etc/passwd"); "" is the root. Everything comes in one order, in which
a directory is followed by all that is below it and names are compared as bytes.
"""

from collections.abc import Iterator, Mapping
from functools import cached_property

from engine.filetree.entry import FileEntry


def order(path: str) -> bytes:
    """The key by which paths are sorted: a NUL, which no name has, ends every name but the last."""
    return path.replace("/", "\0").encode("utf-8", "surrogateescape")


class Tree:
    """Paths and what is there."""

    def __init__(self, entries: Mapping[str, FileEntry]) -> None:
        """Every entry's directories are entries too."""
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
        """(path, entry) of everything, the root first."""
        return iter(self._entries.items())

    def children(self, path: str) -> tuple[str, ...]:
        """The names in a directory, in order."""
        return self._children.get(path, ())

    def links(self) -> dict[int, list[str]]:
        """The inodes that stand at several paths, each with its paths in order."""
        paths: dict[int, list[str]] = {}
        for path, entry in self._entries.items():
            if entry.inode and entry.kind != "dir":
                paths.setdefault(entry.inode, []).append(path)
        return {inode: group for inode, group in paths.items() if len(group) > 1}

    @cached_property
    def _children(self) -> dict[str, tuple[str, ...]]:
        names: dict[str, list[str]] = {}
        for path in self._entries:
            if path:
                above, _, name = path.rpartition("/")
                names.setdefault(above, []).append(name)
        return {path: tuple(found) for path, found in names.items()}


EMPTY = Tree({})

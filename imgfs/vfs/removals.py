"""Entries removed from image directories one by one.

Programs like `rm -r` remove a directory's contents before the directory, but an image is removed in
one step with its directory. Until then the removed entries are only hidden, and they reappear if
nothing more is removed for a minute. Safe from any thread.
"""

import errno
import os
import threading
import time
from collections.abc import Callable, Iterable, Mapping

import msgspec

from engine.image import TreeEntry
from imgfs.vfs.nodes import (
    FOREVER,
    NEVER,
    READ_ONLY_DIRECTORY,
    Attributes,
    Directory,
    Node,
    ReadOnlyDirectory,
)

PATIENCE = 60.0
"""Seconds after the last removal until all entries are shown again."""


class _Hidden(msgspec.Struct, frozen=True):
    paths: frozenset[str]
    until: float


class Removals:
    """The removed entries of each image directory, by paths relative to it."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        """`clock` returns seconds, like `time.monotonic`."""
        self._clock = clock
        self._lock = threading.Lock()
        self._images: dict[TreeEntry, _Hidden] = {}

    def add(self, image: TreeEntry, path: str) -> None:
        """Hide an entry of an image directory, and restart the time of its other hidden entries."""
        with self._lock:
            paths = self._hidden(image) | {path}
            self._images[image] = _Hidden(paths, self._clock() + PATIENCE)

    def hidden(self, image: TreeEntry) -> frozenset[str]:
        """Return the paths that are hidden in an image directory now."""
        if not self._images:
            return frozenset()
        with self._lock:
            return self._hidden(image)

    def end(self, image: TreeEntry) -> bool:
        """Forget the hidden entries of an image directory; return whether there were any."""
        with self._lock:
            removed = bool(self._hidden(image))
            self._images.pop(image, None)
            return removed

    def _hidden(self, image: TreeEntry) -> frozenset[str]:
        entry = self._images.get(image)
        if entry is None:
            return frozenset()
        if self._clock() >= entry.until:
            del self._images[image]
            return frozenset()
        return entry.paths


class ImageEntries(msgspec.Struct, frozen=True):
    """The entries of a directory in an image directory, which can be removed one by one.

    `path` is the directory's path relative to the image directory, with a slash at the end, or "".
    `hide` checks and records a removal, as `NameChanges.hide` does.
    """

    removals: Removals
    hide: Callable[[TreeEntry, str], None]
    place: TreeEntry
    path: str

    def left_of(self, nodes: Mapping[str, Node]) -> Mapping[str, Node]:
        """Return the entries that have not been removed."""
        hidden = self.removals.hidden(self.place)
        if not hidden:
            return nodes
        return {name: node for name, node in nodes.items() if f"{self.path}{name}" not in hidden}

    def timeout(self) -> float:
        """Return for how many seconds the kernel may cache a name: a listing that began before a
        removal can still contain the removed name.
        """
        return NEVER if self.removals.hidden(self.place) else FOREVER

    def unlink(self, name: str, child: Node) -> None:
        """Remove a file; raise OSError for a directory."""
        if child.is_directory:
            raise OSError(errno.EISDIR, os.strerror(errno.EISDIR))
        self.hide(self.place, f"{self.path}{name}")

    def rmdir(self, name: str, child: Directory) -> None:
        """Remove a directory; raise OSError if it is not empty."""
        if any(child.children()):
            raise OSError(errno.ENOTEMPTY, os.strerror(errno.ENOTEMPTY))
        self.hide(self.place, f"{self.path}{name}")


class EntriesDirectory(ReadOnlyDirectory):
    """A base for directories whose entries can be removed one by one."""

    __slots__ = ()

    @property
    def entries(self) -> ImageEntries:
        """The removals that entries of an image directory take part in."""
        raise NotImplementedError

    @property
    def nodes(self) -> Mapping[str, Node]:
        """The children, with those that are hidden."""
        raise NotImplementedError

    def lookup(self, name: str, /) -> Node | None:
        return self.entries.left_of(self.nodes).get(name)

    def children(self) -> Iterable[tuple[str, Node]]:
        return self.entries.left_of(self.nodes).items()

    def entry_timeout(self, _child: Node, /) -> float:
        return self.entries.timeout()

    def unlink(self, name: str, child: Node, /) -> None:
        self.entries.unlink(name, child)

    def rmdir(self, name: str, child: Directory, /) -> None:
        self.entries.rmdir(name, child)


class RemovableDirectory(EntriesDirectory, msgspec.Struct, frozen=True):
    """A directory in an image directory; `mtime` is in nanoseconds."""

    key: str
    entries: ImageEntries
    nodes: Mapping[str, Node]
    mtime: int
    is_remote: bool = False

    def attributes(self) -> Attributes:
        return Attributes(READ_ONLY_DIRECTORY, mtime=self.mtime)

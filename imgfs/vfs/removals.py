"""What was unlinked below image directories: hidden until the image itself is removed, or until
nothing more was unlinked there for a minute.

Programs remove a directory from its leaves to itself, and an image goes in one step, with its
directory. In between this hides what they have removed so far. The event loop adds and ends;
`hidden` may be called in any thread.
"""

import time
from collections.abc import Callable, Iterable, Mapping

import msgspec

from engine.image import TreeEntry
from imgfs.vfs.nodes import FOREVER, READ_ONLY_DIRECTORY, Attributes, Node

PATIENCE = 60.0
"""Seconds after the last removal until everything is shown again."""


class _Hidden(msgspec.Struct, frozen=True):
    paths: frozenset[str]
    until: float


class Removals:
    """The removed entries of each image directory, by paths relative to it."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        """`clock` tells seconds."""
        self._clock = clock
        self._images: dict[TreeEntry, _Hidden] = {}

    def add(self, image: TreeEntry, path: str) -> None:
        """Hide an entry of an image directory, and give the rest of the removal its time."""
        paths = self.hidden(image) | {path}
        self._images[image] = _Hidden(paths, self._clock() + PATIENCE)

    def hidden(self, image: TreeEntry) -> frozenset[str]:
        """The paths that are not to be shown of an image directory now."""
        if not self._images:
            return frozenset()
        entry = self._images.get(image)
        if entry is None:
            return frozenset()
        if self._clock() >= entry.until:
            self._images.pop(image, None)
            return frozenset()
        return entry.paths

    def end(self, image: TreeEntry) -> bool:
        """Forget what was removed of an image directory; whether anything was."""
        removed = bool(self.hidden(image))
        self._images.pop(image, None)
        return removed


class RemovableDirectory(msgspec.Struct, frozen=True):
    """A read-only directory in an image directory, at `path` with a slash at its end, without what
    was removed.
    """

    key: str
    removals: Removals
    place: TreeEntry
    path: str
    nodes: Mapping[str, Node]
    mtime: int

    def attributes(self) -> Attributes:
        return Attributes(READ_ONLY_DIRECTORY, mtime=self.mtime)

    def xattrs(self) -> Mapping[str, bytes]:
        return {}

    def entry_timeout(self, child: Node) -> float:  # noqa: ARG002 (a `Directory`)
        return name_timeout(self.removals, self.place)

    def lookup(self, name: str) -> Node | None:
        return shown(self.removals, self.place, self.path, self.nodes).get(name)

    def children(self) -> Iterable[tuple[str, Node]]:
        return shown(self.removals, self.place, self.path, self.nodes).items()

    def may_block(self, name: str | None) -> bool:  # noqa: ARG002 (a `Directory`)
        return False

    def version(self) -> None:
        """The kernel keeps names as `entry_timeout` says."""


def shown(
    removals: Removals, image: TreeEntry, path: str, nodes: Mapping[str, Node]
) -> Mapping[str, Node]:
    """What is left of the entries of the directory at `path` of an image directory."""
    hidden = removals.hidden(image)
    if not hidden:
        return nodes
    return {name: node for name, node in nodes.items() if f"{path}{name}" not in hidden}


def name_timeout(removals: Removals, image: TreeEntry) -> float:
    """How long the kernel may keep a name below an image directory: a listing that began before a
    removal may still tell what is removed.
    """
    return 0.0 if removals.hidden(image) else FOREVER

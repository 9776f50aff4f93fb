"""The trees about which the native library answers by itself."""

import os
import struct
from array import array
from typing import Final

from engine.layers import table
from imgfs.fuse.native.library import NativeLibrary
from imgfs.vfs.root_names import ImageRoot
from imgfs.vfs.rootfs import Owners, ShownTree

_SHARED: Final = struct.Struct("=4I")
"""Mode, owner, group and device, as struct attributes in trees.c."""


class NativeTrees:
    """The trees of one mount that are in memory. Call them from the event loop only."""

    def __init__(self, native: NativeLibrary | str) -> None:
        """`native` is what `library.load` returned; without the library nothing is added."""
        self._native = native
        self._added: dict[int, ImageRoot] = {}
        self._dropped = 0
        """`Roots.dropped`, as the library last heard of it."""

    def add(self, number: int, root: ImageRoot, parent: int) -> None:
        """Let the library answer about a tree, and no more about those that are not in memory; do
        nothing if it does so already.

        `number` is the inode number of its root, `parent` that of the directory it is in. Raise as
        `ImageRoot.shown`.
        """
        if isinstance(self._native, str) or number in self._added:
            return
        shown = root.shown()
        dropped = root.source.image.roots.dropped
        if dropped != self._dropped:
            self._dropped = dropped
            for known, other in list(self._added.items()):
                if not other.source.is_made():
                    self.forget(known)
        self._native.imgfs_tree_add((number, parent, *_columns(shown, root.source.owners)))
        self._added[number] = root

    def forget(self, number: int) -> None:
        """Leave requests about a tree to Python; do nothing for what is no added tree."""
        if self._added.pop(number, None) is not None and not isinstance(self._native, str):
            self._native.imgfs_tree_remove(number)


def _columns(shown: ShownTree, owners: Owners) -> tuple[object, ...]:
    """Return the columns of a tree in the order of trees.c."""
    tree = shown.tree
    linked = sorted(tree.links.items())
    return (
        tree.names.joined,
        tree.names.ends,
        tree.first,
        tree.shown,
        b"".join(_shared(owners, one) for one in tree.shared),
        tree.attributes,
        tree.seconds,
        tree.nanoseconds,
        tree.sizes,
        tree.targets.joined,
        tree.targets.ends,
        array("Q", (layer.number for layer in shown.layers)),
        array("I", (node for node, _ in linked)),
        array("I", (links for _, links in linked)),
    )


def _shared(owners: Owners, shared: table.Attributes) -> bytes:
    found = owners.attributes(shared, 0, 0, 1)
    uid = os.getuid() if found.uid is None else found.uid
    gid = os.getgid() if found.gid is None else found.gid
    return _SHARED.pack(found.mode, uid, gid, found.device)

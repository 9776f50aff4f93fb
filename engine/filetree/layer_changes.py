"""The changes of one layer to the root below it, in the form of an overlayfs layer.

A whiteout is a device 0:0, and a directory that hides what is below it is opaque. Directories that
the layer does not list have the attributes of the root, so that the layers of an image, stacked by
overlayfs, are its root.
"""

from collections import defaultdict
from collections.abc import Sequence

from engine.filetree.entry_tree import WHITED_OUT, EntryTree, layer_of
from engine.filetree.growing_tree import Directory, frozen, name_of
from engine.layers.table import LayerTable


class LayerChanges:
    """The whiteouts of a layer that is being applied, and what else it touches."""

    def __init__(self, layer: int) -> None:
        self._layer = layer
        self._touched: set[Directory] = set()
        self._whiteouts: defaultdict[Directory, set[bytes]] = defaultdict(set)
        self._copied: defaultdict[Directory, set[bytes]] = defaultdict(set)

    def touch(self, way: Sequence[Directory]) -> None:
        """Note that the layer has a directory; `way` leads to it from the root."""
        self._touched.update(way)

    def white_out(self, way: Sequence[Directory], name: bytes) -> None:
        """Note that the layer hides a name in the last directory of `way`."""
        self.touch(way)
        self._whiteouts[way[-1]].add(name)

    def copy_up(self, way: Sequence[Directory], name: bytes) -> None:
        """Note that the layer links to an entry of a lower layer, which overlayfs copies up."""
        self.touch(way)
        self._copied[way[-1]].add(name)

    def tree(self, root: Directory, tables: Sequence[LayerTable | None]) -> EntryTree:
        """Return the changes; `root` is the merged root with the layer applied."""
        own = Directory(root.entry)
        own.opaque = root.opaque
        waiting = [(root, own)]
        while waiting:
            merged, copy = waiting.pop()
            copied = self._copied.get(merged, ())
            for name, child in merged.children.items():
                if isinstance(child, Directory):
                    if child.listed == self._layer or child in self._touched:
                        below = copy.children[name] = Directory(child.entry)
                        below.opaque = child.opaque
                        waiting.append((child, below))
                elif layer_of(name_of(child)) == self._layer or name in copied:
                    copy.children[name] = child
            for name in self._whiteouts.get(merged, ()):
                found = copy.children.setdefault(name, WHITED_OUT)
                if isinstance(found, Directory):
                    found.opaque = self._layer
        return frozen(own, tables, (), self._layer)

"""Merge the tables of layers into one tree, and find what each layer changes in it.

The rules are those of the OCI image-spec and of umoci. Names are resolved inside the root and never
leave it: `..` stops there, and symlinks among the directories of a name are followed inside. A
whiteout or an opaque marker hides entries of lower layers but not of its own layer, wherever it
stands in the layer. An entry that replaces one of another type removes it with everything below; a
directory that a later layer repeats keeps its children. Directories that no layer lists belong to
root with mode 0755.

An entry that breaks a rule is left out, and so is one whose path no file system takes; the others
are merged.
"""

from collections.abc import Sequence
from typing import Final

from engine.errors import printable
from engine.filetree.entry_tree import (
    IMPLICIT,
    EntryTree,
    LeftOut,
    Omissions,
    index_of,
    layer_of,
    reference,
)
from engine.filetree.growing_tree import (
    Directory,
    Leaf,
    frozen,
    name_of,
    node_count,
    target_of,
)
from engine.filetree.layer_changes import LayerChanges
from engine.layers.table import Attributes, LayerTable

WHITEOUT: Final = b".wh."
OPAQUE: Final = b".wh..wh..opq"
MAX_NODES: Final = 1_500_000
"""The largest number of nodes of one tree."""
_MAX_NAME: Final = 255
_MAX_LINKS: Final = 255
_MAX_PATH: Final = 4095
"""The length of the longest path that Linux follows, in bytes: PATH_MAX without the final NUL."""
_MAX_STEPS: Final = 30_000_000
"""The largest number of entries of all layers, and of names on the way to each directory, counted
where an entry is in another one than that before it. Docker takes 127 layers: with 100,000 files
each, in directories of twenty that are ten deep, they have less.
"""
_MAX_DEVICE: Final = (1 << 32) - 1


class TreeBuilder:
    """A merged root and the layers applied to it so far; for one thread at a time."""

    def __init__(self) -> None:
        self._tables: list[LayerTable | None] = []
        self._root = Directory(IMPLICIT)
        self._nodes = 0
        self._steps = 0
        self._excess = ""
        self._left_out = Omissions()
        self._changes = LayerChanges(-1)
        self._above: bytes | None = None
        """The path of the directory in which the last entry was placed, None to look it up."""
        self._directory = self._root

    @property
    def left_out(self) -> tuple[LeftOut, ...]:
        """The entries left out so far: the first thousand, and how many more there are."""
        return self._left_out.until(self._layer)

    @property
    def excess(self) -> str:
        """Why nothing more is taken, "" as long as no limit is exceeded."""
        return self._excess

    def leave_out(self, reason: str) -> None:
        """Apply the next layer as an empty one, since it cannot be read."""
        self._begin(None)
        self._omit(b"", reason)

    def apply(self, table: LayerTable) -> None:
        """Apply the next layer."""
        self._begin(table)
        faults = [_fault(one) for one in table.shared]
        for index, path in enumerate(table.paths):
            shared = table.attributes[index]
            try:
                if faults[shared]:
                    raise _Unfit(faults[shared])
                self._take(path, table.shared[shared].kind, reference(self._layer, index))
            except _Unfit as error:
                self._omit(path, str(error))
            self._steps += 1
            if self._nodes > MAX_NODES or self._steps > _MAX_STEPS:
                self._excess = f"is too large: {self._exceeded()}"
                self._omit(b"", self._excess)
                break
        if table.damage:
            self._omit(b"", table.damage)

    def tree(self) -> EntryTree:
        """Return the merged root in its current state."""
        return frozen(self._root, self._tables, self.left_out)

    def changes(self) -> EntryTree:
        """Return what the last layer adds and hides, in the form of overlayfs."""
        return self._changes.tree(self._root, self._tables)

    @property
    def _layer(self) -> int:
        return len(self._tables) - 1

    def _exceeded(self) -> str:
        if self._nodes > MAX_NODES:
            return f"the root has more than {MAX_NODES} entries"
        return f"the layers have more than {_MAX_STEPS} entries and names on their paths"

    def _begin(self, table: LayerTable | None) -> None:
        self._tables.append(table)
        self._changes = LayerChanges(self._layer)
        self._above = None

    def _omit(self, path: bytes, reason: str) -> None:
        self._left_out.add(LeftOut(self._layer, path, reason))

    # -- one entry --------------------------------------------------------------------------------

    def _take(self, path: bytes, kind: str, entry: int) -> None:
        if len(path) > _MAX_PATH:
            raise _too_long(path)
        above, _, name = path.rpartition(b"/")
        if name == OPAQUE:
            self._take_opaque(above)
        elif name.startswith(WHITEOUT):
            self._take_whiteout(above, name.removeprefix(WHITEOUT))
        elif kind == "dir":
            self._place_directory(above, name, entry)
        elif not name:
            return
        elif kind == "hardlink":
            directory = self._directory_at(above, name)
            self._place(above, name, (entry, self._target(entry, directory, name)))
        else:
            self._place(above, name, entry)

    def _place(self, above: bytes, name: bytes, leaf: Leaf) -> None:
        _check_length(name)
        children = self._directory_at(above, name).children
        found = children.get(name)
        if found is None:
            self._nodes += 1
        elif isinstance(found, Directory):
            self._above = None
            self._nodes -= node_count(found) - 1
        children[name] = leaf

    def _place_directory(self, above: bytes, name: bytes, entry: int) -> None:
        made = self._child(self._directory_at(above, name), name) if name else self._root
        made.entry = entry
        made.listed = self._layer

    def _child(self, directory: Directory, name: bytes) -> Directory:
        """Return a child that is a directory, in the place of an entry of another type."""
        found = directory.children.get(name)
        if isinstance(found, Directory):
            return found
        _check_length(name)
        made = Directory(IMPLICIT)
        if found is None:
            self._nodes += 1
        elif self._is_new(found):
            made.opaque = self._layer  # it hides what the entry in its place has hidden
        directory.children[name] = made
        return made

    def _target(self, entry: int, directory: Directory, own: bytes) -> int:
        """Return the target of a hard link, which is `own` in `directory`; a symlink at the end of
        its path is not followed.
        """
        path = self._link(entry)
        above, _, name = path.rpartition(b"/")
        way = self._existing(above)
        found = way[-1].children.get(name) if way else None
        if not path:
            found = self._root
        if found is None or (name == own and way[-1] is directory):
            raise _Unfit(f"is a hard link of what is not there: {_text(path)}")
        if isinstance(found, Directory):
            raise _Unfit(f"is a hard link of a directory: {_text(path)}")
        if not self._is_new(found):
            self._changes.copy_up(way, name)
        return target_of(found)

    # -- whiteouts --------------------------------------------------------------------------------

    def _take_opaque(self, path: bytes) -> None:
        if way := self._existing(path):
            self._changes.touch(way)
            self._hide_below(way[-1])

    def _take_whiteout(self, above: bytes, name: bytes) -> None:
        if name in (b"", b".", b".."):
            raise _Unfit("is a whiteout of no name")
        way = self._existing(above)
        found = way[-1].children.get(name) if way else None
        if found is None:
            return
        self._changes.white_out(way, name)
        if isinstance(found, Directory) and found.listed == self._layer:
            self._hide_below(found)
        elif isinstance(found, Directory) or not self._is_new(found):
            del way[-1].children[name]
            self._nodes -= node_count(found)
            self._above = None

    def _hide_below(self, directory: Directory) -> None:
        """Remove what lower layers have below a directory."""
        waiting = [directory]
        while waiting:
            directory = waiting.pop()
            if directory.opaque == self._layer:
                continue
            directory.opaque = self._layer
            for name, child in list(directory.children.items()):
                if isinstance(child, Directory) and child.listed == self._layer:
                    waiting.append(child)
                elif isinstance(child, Directory) or not self._is_new(child):
                    del directory.children[name]
                    self._nodes -= node_count(child)
                    if directory is self._root:  # overlayfs does not take it as opaque
                        self._changes.white_out([directory], name)
        self._above = None

    def _is_new(self, leaf: Leaf) -> bool:
        """Return whether the current layer has put a leaf where it is."""
        return layer_of(name_of(leaf)) == self._layer

    # -- paths ------------------------------------------------------------------------------------

    def _directory_at(self, path: bytes, name: bytes) -> Directory:
        """Return the directory at a path, symlinks followed, made if necessary, and list it; `name`
        will be in it.
        """
        if path == self._above:
            return self._directory
        way = self._way(path.split(b"/") if path else [])
        self._above = path if way else None
        if way is None:
            names = self._resolved(path)
            if len(full := b"/".join([*names, name])) > _MAX_PATH:
                raise _too_long(full)
            way = [self._root]
            for one in names:
                way.append(self._child(way[-1], one))
        for directory in way:
            directory.listed = self._layer
        self._directory = way[-1]
        return way[-1]

    def _existing(self, path: bytes) -> list[Directory]:
        """Return the directories on the way to a path, symlinks followed; [] if it has none."""
        way = self._way(path.split(b"/") if path else [])
        return way or self._way(self._resolved(path)) or []

    def _way(self, names: Sequence[bytes]) -> list[Directory] | None:
        """Return the directories on the way along `names`, None if one of them is none."""
        self._steps += len(names)
        way = [self._root]
        for name in names:
            child = way[-1].children.get(name)
            if not isinstance(child, Directory):
                return None
            way.append(child)
        return way

    def _resolved(self, path: bytes) -> list[bytes]:
        """Return a path inside the root, symlinks followed; keep the part that does not exist."""
        here: list[bytes] = []
        way: list[Directory | None] = [self._root]
        links = 0
        waiting = self._steps_along(path)
        while waiting:
            name = waiting.pop()
            if name == b"..":
                if here:
                    here.pop()
                    way.pop()
                continue
            if name in (b"", b"."):
                continue
            above = way[-1]
            child = above.children.get(name) if above else None
            if child is None or isinstance(child, Directory) or not self._is_symlink(child):
                here.append(name)
                way.append(child if isinstance(child, Directory) else None)
                continue
            links += 1
            if links > _MAX_LINKS:
                raise _Unfit(f"leads through more than {_MAX_LINKS} symlinks")
            target = self._link(target_of(child))
            if len(target) > _MAX_PATH:
                found = f"leads through a symlink to a path of {len(target)} bytes"
                raise _Unfit(f"{found}: file systems take {_MAX_PATH}")
            if target.startswith(b"/"):
                here.clear()
                del way[1:]
            waiting += self._steps_along(target)
        return here

    def _steps_along(self, path: bytes) -> list[bytes]:
        """Return the names in a path, the first one last, and count them."""
        names = path.split(b"/")[::-1]
        self._steps += len(names)
        return names

    # -- entries ----------------------------------------------------------------------------------

    def _is_symlink(self, leaf: Leaf) -> bool:
        table, index = self._entry(target_of(leaf))
        return table.shared[table.attributes[index]].kind == "symlink"

    def _link(self, entry: int) -> bytes:
        table, index = self._entry(entry)
        return table.links[index]

    def _entry(self, entry: int) -> tuple[LayerTable, int]:
        table = self._tables[layer_of(entry)]
        assert table is not None
        return table, index_of(entry)


class _Unfit(Exception):
    """An entry that breaks a rule; its text is the reason."""


def _check_length(name: bytes) -> None:
    if len(name) > _MAX_NAME:
        raise _Unfit(f"has a name of {len(name)} bytes: file systems take {_MAX_NAME}")


def _too_long(path: bytes) -> _Unfit:
    return _Unfit(f"has a path of {len(path)} bytes: file systems take {_MAX_PATH}")


def _fault(shared: Attributes) -> str:
    """Return why entries with these attributes cannot be in a tree, "" if they can."""
    if shared.kind == "other":
        return "is of a type that layers do not have"
    if not all(0 <= number <= _MAX_DEVICE for number in shared.device):
        return f"has device numbers that no device has: {shared.device}"
    return ""


def _text(path: bytes) -> str:
    return printable(path.decode("utf-8", "surrogateescape"))

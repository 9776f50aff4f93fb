"""Files, directories and other entries of a merged root, made anew in a directory on disk."""

import os
import stat
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from functools import cache, partial

from engine.closing import Closing
from engine.errors import printable
from engine.files import write_at
from engine.filetree.entry import FILE_TYPES
from engine.filetree.entry_tree import EntryTree, LeftOut, Omissions, Place
from engine.filetree.open_directory import OpenDirectory
from engine.layers.layer import Layer, Layers
from engine.layers.table import Entry
from engine.spec.oci import Descriptor

_PIECE = 1 << 20
_WITH_USER_XATTRS = ("file", "dir")
_UNCHANGED = (1 << 32) - 1
"""The owner that chown(2) leaves as it is."""


class Restorer(Closing):
    """A writer of entries to a disk, by one thread; use it as a context manager.

    Modes and times are those of the entries; owners and extended attributes too if
    `keeps_owners`, which needs root. Without it, everything belongs to the caller, as with
    docker cp, and no file is setuid or setgid.
    """

    def __init__(
        self,
        layers: Layers,
        descriptors: Sequence[Descriptor],
        tree: EntryTree,
        on_content: Callable[[int], object],
        keeps_owners: bool,
    ) -> None:
        self._tree = tree
        self._on_content = on_content
        self._keeps_owners = keeps_owners
        self._opened = ExitStack()
        self._layer: Callable[[int], Layer] = cache(partial(self._open, layers, descriptors))
        self._made: dict[Place, tuple[bytes, ...]] = {}
        """The first path of each hard link."""
        self._left_out = Omissions()
        self._last_layer = len(descriptors) - 1

    def close(self) -> None:
        self._opened.close()

    @property
    def left_out(self) -> tuple[LeftOut, ...]:
        """The entries made without an attribute that the disk refused: the first thousand, and how
        many more there are.
        """
        return self._left_out.until(self._last_layer)

    def restore(self, node: int, path: bytes) -> None:
        """Make a node, and all below it, at a path of the disk.

        A directory that is there is filled; any other file that is there is replaced by one that
        is no directory. What others do meanwhile to the names there leads to nothing elsewhere.
        Raise AlreadyExists where one of them is a directory and the other is not, Unavailable where
        others have moved what was made, DamagedLayer, and OSError.
        """
        parent, name = os.path.split(path)
        with OpenDirectory(parent) as here:
            if not self._is_directory(node):
                self._replace(here, name, node)
                return
            top = name or b"."
            here.make_directory(top)
            here.enter(top)
            self._fill(here, node)
            self._finish(here, node)
            with here.naming(b"."):
                self._set_attributes(node, f"/proc/self/fd/{here.descriptor}")

    def _fill(self, here: OpenDirectory, directory: int) -> None:
        """Make all that is below a directory; those in it keep the mode 0700."""
        for name, node in self._steps(directory):
            if not name:
                here.leave()
            elif self._is_directory(node):
                here.make_directory(name)
                here.enter(name)
            else:
                self._replace(here, name, node)

    def _finish(self, here: OpenDirectory, directory: int) -> None:
        """Set the attributes of all directories below a directory, when nothing is made in them
        or linked out of them any more.
        """
        for name, node in self._steps(directory):
            if not name:
                self._set_attributes_of(here, here.leave(), node)
            elif self._is_directory(node):
                here.enter(name)

    def _steps(self, directory: int) -> Iterator[tuple[bytes, int]]:
        """Yield each node below a directory with its name, and a directory once more, with an
        empty name, behind all that is in it.
        """
        waiting = [(self._tree.name(node), node) for node in self._children(directory)]
        while waiting:
            name, node = waiting.pop()
            yield name, node
            if name and self._is_directory(node):
                waiting.append((b"", node))
                waiting += [(self._tree.name(child), child) for child in self._children(node)]

    def _children(self, directory: int) -> Sequence[int]:
        """Return the nodes in a directory, the last one first."""
        return self._tree.children(directory)[::-1]

    def _is_directory(self, node: int) -> bool:
        return self._tree.attributes(node).kind == "dir"

    def _replace(self, here: OpenDirectory, name: bytes, node: int) -> None:
        place = self._tree.place(node)
        with here.replacing(name) as made:
            if place is not None and self._tree.links(node) > 1:
                first = self._made.setdefault(place, here.path(name))
                if first != here.path(name):
                    here.link(first, made)
                    return
            self._make(here, made, node)

    def _make(self, here: OpenDirectory, name: bytes, node: int) -> None:
        entry, place = self._tree.entry(node), self._tree.place(node)
        kind = entry.attributes.kind
        if kind == "file":
            with open(here.create(name), "wb", buffering=0) as file:
                if place is not None:
                    for offset, data in self._content(self._layer(place.layer), entry):
                        with here.naming(name):
                            write_at(file.fileno(), data, offset)
                        self._on_content(len(data))
                with here.naming(name):
                    os.ftruncate(file.fileno(), entry.size)
                    self._set_attributes(node, file.fileno())
            return
        with here.naming(name):
            if kind == "symlink":
                os.symlink(entry.link, name, dir_fd=here.descriptor)
            else:
                device = os.makedev(*entry.attributes.device)
                os.mknod(name, FILE_TYPES[kind] | 0o600, device, dir_fd=here.descriptor)
        self._set_attributes_of(here, name, node)

    def _content(self, layer: Layer, entry: Entry) -> Iterator[tuple[int, bytes]]:
        """Yield the offsets and the bytes of the parts of a file that are stored."""
        stored = [(one.offset, one.length) for one in entry.segments] or [(0, entry.size)]
        for start, length in stored:
            for offset in range(start, start + length, _PIECE):
                yield offset, layer.pread(entry, min(_PIECE, start + length - offset), offset)

    def _set_attributes_of(self, here: OpenDirectory, name: bytes, node: int) -> None:
        kind = self._tree.attributes(node).kind
        with here.pinned(name, FILE_TYPES[kind]) as target:
            self._set_attributes(node, target)

    def _set_attributes(self, node: int, target: int | str) -> None:
        """Set the attributes of an open file, or of what a path in /proc/self/fd leads to."""
        entry = self._tree.entry(node)
        shared = entry.attributes
        mode = shared.mode
        if self._keeps_owners:
            os.chown(target, _kernel_number(shared.uid), _kernel_number(shared.gid))
            for name, value in shared.xattrs.items():
                self._set_xattr(node, target, name, value)
        else:
            mode &= 0o777 | stat.S_ISVTX
        if shared.kind != "symlink":
            os.chmod(target, mode)
        os.utime(target, ns=(entry.mtime_ns, entry.mtime_ns))

    def _set_xattr(self, node: int, target: int | str, name: str, value: bytes) -> None:
        """Set an extended attribute; leave out one of the user where Linux takes none."""
        try:
            os.setxattr(target, name, value)
        except PermissionError:
            entry, place = self._tree.entry(node), self._tree.place(node)
            kind = entry.attributes.kind
            if kind in _WITH_USER_XATTRS or not name.startswith("user.") or place is None:
                raise
            reason = f"has no attribute {printable(name)} on a disk, since it is a {kind}"
            self._left_out.add(LeftOut(place.layer, entry.path, reason))

    def _open(self, layers: Layers, descriptors: Sequence[Descriptor], number: int) -> Layer:
        return self._opened.enter_context(layers.open(descriptors[number].digest))


def _kernel_number(owner: int) -> int:
    """Return the number of a user or group as chown(2) takes it, and as docker passes it on: its
    lower 32 bits, of which -1 changes nothing.
    """
    number = owner & _UNCHANGED
    return -1 if number == _UNCHANGED else number

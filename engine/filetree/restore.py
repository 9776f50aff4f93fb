"""Files, directories and other entries of a merged root, made anew in a directory on disk."""

import os
import stat
from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress
from functools import cache, partial

from engine.closing import Closing
from engine.errors import AlreadyExists
from engine.filetree.entry import FILE_TYPES
from engine.filetree.entry_tree import EntryTree, Place
from engine.layers.layer import Layer, Layers
from engine.layers.table import Entry
from engine.spec.oci import Descriptor

_PIECE = 1 << 20
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
        self._made: dict[Place, bytes] = {}
        """The first path of each hard link."""

    def close(self) -> None:
        self._opened.close()

    def restore(self, node: int, path: bytes) -> None:
        """Make a node, and all below it, at a path of the disk.

        A directory that is there is filled; any other file that is there is replaced by one that
        is no directory. Raise AlreadyExists where one of them is a directory and the other is not,
        DamagedLayer, and OSError.
        """
        directories = []
        for where, current in self._tree.walk(path, node):
            if self._tree.attributes(current).kind == "dir":
                _make_directory(where)
                directories.append((where, current))
            else:
                self._replace(current, where)
        for where, current in reversed(directories):
            self._set_attributes(self._tree.entry(current), where)

    def _replace(self, node: int, path: bytes) -> None:
        if _is_directory(path):
            raise AlreadyExists("directory", os.fsdecode(path))
        with suppress(FileNotFoundError):
            os.unlink(path)
        place = self._tree.place(node)
        if place is not None and self._tree.links(node) > 1:
            first = self._made.setdefault(place, path)
            if first != path:
                os.link(first, path, follow_symlinks=False)
                return
        try:
            self._make(node, path)
        except BaseException:
            with suppress(OSError):
                os.unlink(path)
            raise

    def _make(self, node: int, path: bytes) -> None:
        entry, place = self._tree.entry(node), self._tree.place(node)
        kind = entry.attributes.kind
        if kind == "symlink":
            os.symlink(entry.link, path)
        elif kind == "file":
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
            with open(descriptor, "wb", buffering=0) as file:
                if place is not None:
                    self._write(file.fileno(), self._layer(place.layer), entry)
        else:
            os.mknod(path, FILE_TYPES[kind] | 0o600, os.makedev(*entry.attributes.device))
        self._set_attributes(entry, path)

    def _write(self, descriptor: int, layer: Layer, entry: Entry) -> None:
        stored = [(one.offset, one.length) for one in entry.segments] or [(0, entry.size)]
        for start, length in stored:
            for offset in range(start, start + length, _PIECE):
                data = layer.pread(entry, min(_PIECE, start + length - offset), offset)
                written = 0
                while written < len(data):
                    written += os.pwrite(descriptor, data[written:], offset + written)
                self._on_content(len(data))
        os.ftruncate(descriptor, entry.size)

    def _set_attributes(self, entry: Entry, path: bytes) -> None:
        shared = entry.attributes
        mode = shared.mode
        if self._keeps_owners:
            owner, group = _kernel_number(shared.uid), _kernel_number(shared.gid)
            os.chown(path, owner, group, follow_symlinks=False)
            for name, value in shared.xattrs.items():
                os.setxattr(path, name, value, follow_symlinks=False)
        else:
            mode &= 0o777 | stat.S_ISVTX
        if shared.kind != "symlink":
            os.chmod(path, mode)
        os.utime(path, ns=(entry.mtime_ns, entry.mtime_ns), follow_symlinks=False)

    def _open(self, layers: Layers, descriptors: Sequence[Descriptor], number: int) -> Layer:
        return self._opened.enter_context(layers.open(descriptors[number].digest))


def _kernel_number(owner: int) -> int:
    """Return the number of a user or group as chown(2) takes it, and as docker passes it on: its
    lower 32 bits, of which -1 changes nothing.
    """
    number = owner & _UNCHANGED
    return -1 if number == _UNCHANGED else number


def _make_directory(path: bytes) -> None:
    try:
        os.mkdir(path, 0o700)
    except FileExistsError:
        if not _is_directory(path):
            raise AlreadyExists("file", os.fsdecode(path)) from None


def _is_directory(path: bytes) -> bool:
    with suppress(FileNotFoundError):
        return stat.S_ISDIR(os.lstat(path).st_mode)
    return False

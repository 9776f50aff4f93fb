"""The files and directories of the roots of images, and of what their layers hold.

A file is one inode in every image: its number is made of its layer, the number of its entry there,
and its link count. A directory belongs to one tree.
"""

import errno
import os
import stat
from collections.abc import Iterable, Mapping, Sequence
from typing import ClassVar, Final, Protocol, overload

import msgspec
from msgspec.structs import replace

from engine.filetree.entry import FILE_TYPES
from engine.filetree.entry_tree import ROOT
from engine.filetree.tree_table import TreeTable
from engine.layers import table
from engine.layers.layer import Layer
from engine.layers.table import Entry
from imgfs.vfs.keys import EntryKey, Key, NodeKey, TreeKey, entry_number
from imgfs.vfs.nodes import (
    FOREVER,
    Attributes,
    Node,
    Reader,
    ReadOnlyDirectory,
    ReadOnlyNode,
)
from imgfs.vfs.open_layers import OpenLayers

_SYMLINK_MODE: Final = 0o777
"""The mode that Linux gives every symlink, whatever an archive says."""
_OPAQUE: Final = {"trusted.overlay.opaque": b"y", "user.overlay.opaque": b"y"}
"""Only the attribute that an overlay of the mount's owner hides is listed, but both exist."""

_UINT32: Final = (1 << 32) - 1
"""The bits of an owner or a device that the kernel gets; archives can have more."""
_BLOCK: Final = 4096
_LARGEST_BLOCK: Final = 1 << 20
_LISTED: Final = 208
"""The bytes that an entry of a directory takes in a READDIRPLUS, for a name of common length."""


class Owners(msgspec.Struct, frozen=True):
    """The rule by which owners and modes are shown.

    `are_shown` is true in a mount of root: owners and modes are those of the layer. Else the owner
    of the mount owns everything and may read it.
    """

    are_shown: bool

    def attributes(self, shared: table.Attributes, size: int, mtime: int, links: int) -> Attributes:
        """Return the attributes of an entry."""
        kind, mode = FILE_TYPES[shared.kind], shared.mode
        uid: int | None = None
        gid: int | None = None
        if self.are_shown:
            uid, gid = shared.uid & _UINT32, shared.gid & _UINT32
        elif kind == stat.S_IFDIR:
            mode |= stat.S_IRUSR | stat.S_IXUSR
        else:
            mode |= stat.S_IRUSR
        if kind == stat.S_IFLNK:
            mode = _SYMLINK_MODE
        device = os.makedev(*shared.device) & _UINT32
        return Attributes(kind | mode, size, mtime, links, uid, gid, device=device)


class ShownLayer(msgspec.Struct, frozen=True, gc=False):
    """A layer of shown trees; `number` is what its entries' inode numbers are made of."""

    digest: str
    number: int
    opened: OpenLayers
    owners: Owners

    def key(self, index: int, links: int) -> EntryKey:
        """Return the key of an entry with a number of links."""
        return EntryKey(entry_number(self.number, index, links))


class ShownTree(msgspec.Struct, frozen=True):
    """A tree and its layers, by their numbers in it."""

    tree: TreeTable
    layers: tuple[ShownLayer, ...]


class TreeSource(Protocol):
    """A tree that may have to be made; safe from any thread."""

    @property
    def key(self) -> TreeKey: ...

    @property
    def owners(self) -> Owners: ...

    def get(self) -> ShownTree:
        """Return the tree; raise EngineError or OSError."""
        ...

    def is_made(self) -> bool:
        """Return whether `get` returns at once."""
        ...


class _Shown(ReadOnlyNode, msgspec.Struct, frozen=True, gc=False):
    """Anything but a directory: entry number `index` of a layer."""

    key: Key
    layer: ShownLayer
    index: int
    shared: table.Attributes
    mtime: int
    size: int
    links: int

    def attributes(self) -> Attributes:
        return self.layer.owners.attributes(self.shared, self.size, self.mtime, self.links)

    def xattrs(self) -> Mapping[str, bytes]:
        return self.shared.xattrs

    def xattr(self, name: str) -> bytes | None:
        return _xattr(name, self.shared, self.layer.digest)


class RootFile(_Shown, frozen=True, gc=False):
    """A regular file."""

    @property
    def may_block(self) -> bool:
        return not self.layer.opened.is_open(self.layer.digest)

    def open(self) -> Reader:
        opened = self.layer.opened.take(self.layer.digest)
        return _Reader(self.layer, opened, opened.table.entry(self.index))


class RootDevice(_Shown, frozen=True, gc=False):
    """A device or a fifo, which the kernel opens itself."""

    may_block: ClassVar[bool] = False

    def open(self) -> Reader:
        raise OSError(errno.ENXIO, os.strerror(errno.ENXIO))


class RootSymlink(_Shown, frozen=True, gc=False):
    """A symlink."""

    target: bytes

    def readlink(self) -> bytes:
        return self.target


class Whiteout(ReadOnlyNode, msgspec.Struct, frozen=True, gc=False):
    """An overlayfs whiteout: a character device 0:0 that hides a name of lower layers."""

    key: NodeKey
    may_block: ClassVar[bool] = False

    def attributes(self) -> Attributes:
        return Attributes(stat.S_IFCHR)

    def open(self) -> Reader:
        raise OSError(errno.ENXIO, os.strerror(errno.ENXIO))


class RootDirectory(ReadOnlyDirectory, msgspec.Struct, frozen=True, gc=False):
    """A directory of a tree with `count` children; `layer` is "" if no layer lists it."""

    source: TreeSource
    node: int
    shared: table.Attributes
    mtime: int
    count: int
    layer: str
    is_opaque: bool
    is_lasting: ClassVar[bool] = True

    @property
    def key(self) -> Key:
        return key_in(self.source, self.node)

    def attributes(self) -> Attributes:
        found = self.source.owners.attributes(self.shared, 0, self.mtime, 1)
        return replace(found, block_size=_block_size(self.count))

    def xattrs(self) -> Mapping[str, bytes]:
        if not self.is_opaque:
            return self.shared.xattrs
        name = "trusted.overlay.opaque" if self.source.owners.are_shown else "user.overlay.opaque"
        return {**self.shared.xattrs, name: _OPAQUE[name]}

    def xattr(self, name: str) -> bytes | None:
        if self.is_opaque and name in _OPAQUE:
            return _OPAQUE[name]
        return _xattr(name, self.shared, self.layer)

    def may_block(self, _name: str | None, /) -> bool:
        return not self.source.is_made()

    def entry_timeout(self, _child: Node, /) -> float:
        return FOREVER

    def lookup(self, name: str, /) -> Node | None:
        return child_of(self.source, self.node, name)

    def children(self) -> Iterable[tuple[str, Node]]:
        return children_of(self.source, self.node)


class _Reader:
    """An open file, which can be read even after its image is deleted from the store."""

    def __init__(self, shown: ShownLayer, layer: Layer, entry: Entry) -> None:
        self._shown = shown
        self._layer = layer
        self._entry = entry

    def read(self, offset: int, size: int) -> bytes:
        return self._layer.pread(self._entry, size, offset)

    def read_at_once(self, offset: int, size: int) -> bytes | None:
        return self._layer.pread_at_once(self._entry, size, offset)

    def fileno(self) -> int | None:
        """Return None: the bytes are a part of the layer."""
        return None

    def close(self) -> None:
        self._shown.opened.give_back(self._shown.digest)


def key_in(source: TreeSource, node: int) -> TreeKey | NodeKey:
    """Return the key of a node of a tree that is not an entry of a layer."""
    return source.key if node == ROOT else NodeKey(source.key, node)


def child_of(source: TreeSource, directory: int, name: str) -> Node | None:
    """Return the child of a directory with that name, None if there is none."""
    shown = source.get()
    node = shown.tree.lookup(directory, os.fsencode(name))
    return None if node is None else node_of(source, shown, node)


def children_of(source: TreeSource, directory: int) -> Sequence[tuple[str, Node]]:
    """Return the name and node of each child of a directory."""
    shown = source.get()
    return _Children(source, shown, shown.tree.children(directory))


class _Children(Sequence[tuple[str, Node]]):
    """The children of a directory, made when they are asked for."""

    def __init__(self, source: TreeSource, shown: ShownTree, nodes: range) -> None:
        self._source = source
        self._shown = shown
        self._nodes = nodes

    def __len__(self) -> int:
        return len(self._nodes)

    @overload
    def __getitem__(self, index: int) -> tuple[str, Node]: ...
    @overload
    def __getitem__(self, index: slice) -> "_Children": ...
    def __getitem__(self, index: int | slice) -> "tuple[str, Node] | _Children":
        if isinstance(index, slice):
            return _Children(self._source, self._shown, self._nodes[index])
        node = self._nodes[index]
        name = os.fsdecode(self._shown.tree.name(node))
        return name, node_of(self._source, self._shown, node)


def node_of(source: TreeSource, shown: ShownTree, node: int) -> Node:
    """Return a node of a tree as one of the mount."""
    tree = shown.tree
    place, shared, mtime = tree.place(node), tree.shared_attributes(node), tree.mtime_ns(node)
    if shared.kind == "dir":
        digest = shown.layers[place.layer].digest if place else ""
        count, is_opaque = len(tree.children(node)), tree.is_opaque(node)
        return RootDirectory(source, node, shared, mtime, count, digest, is_opaque)
    if place is None:
        return Whiteout(NodeKey(source.key, node))
    layer, links = shown.layers[place.layer], tree.link_count(node)
    if shared.kind == "file":
        key = layer.key(place.index, links)
        return RootFile(key, layer, place.index, shared, mtime, tree.sizes[node], links)
    own = layer.key(place.index, links) if links > 1 else NodeKey(source.key, node)
    return _special(own, layer, place.index, shared, mtime, links, tree.targets[node])


def entry_node(layer: ShownLayer, entry: Entry, index: int, links: int) -> Node:
    """Return an entry of a layer, anything but a directory, as a node of the mount."""
    key, shared, mtime = layer.key(index, links), entry.attributes, entry.mtime_ns
    if shared.kind == "file":
        return RootFile(key, layer, index, shared, mtime, entry.size, links)
    return _special(key, layer, index, shared, mtime, links, entry.link)


def _special(
    key: Key,
    layer: ShownLayer,
    index: int,
    shared: table.Attributes,
    mtime: int,
    links: int,
    target: bytes,
) -> Node:
    if shared.kind == "symlink":
        return RootSymlink(key, layer, index, shared, mtime, len(target), links, target)
    return RootDevice(key, layer, index, shared, mtime, 0, links)


def _block_size(count: int) -> int:
    """Return the block size of a directory, for which C libraries make room when they list it:
    enough for one READDIRPLUS, since the kernel asks for attributes in the first request only.
    """
    size = _BLOCK
    while size < _LARGEST_BLOCK and size // _LISTED < count:
        size *= 2
    return size


def _xattr(name: str, shared: table.Attributes, layer: str) -> bytes | None:
    """Return an attribute of an entry: one of its own, or one that is not listed, so that copies
    are as the layer says.
    """
    match name:
        case "user.oci.layer":
            return layer.encode() or None
        case "user.oci.owner":
            return f"{shared.uid}:{shared.gid}".encode()
        case "user.oci.mode":
            return f"{shared.mode:04o}".encode()
    return shared.xattrs.get(name)

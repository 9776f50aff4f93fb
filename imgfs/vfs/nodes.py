"""The interface of files and directories in the mounted tree, free of any FUSE library.

Two nodes with equal keys are one inode, and the content of a file with a given key never changes.
The FUSE handlers look a node up and call its methods; a change that a node does not support raises
OSError with the node's `refusal`. Methods for which `may_block`, `changes_block` or `is_remote` is
true can wait for the disk or the network, so call them in a worker thread. Call everything else in
the event loop.
"""

import errno
import os
import stat
from collections.abc import Iterable, Mapping
from enum import Enum
from typing import Any, ClassVar, Protocol, TypeGuard

import msgspec

from engine.closing import Closing
from imgfs.vfs.keys import Key

READ_ONLY_DIRECTORY = stat.S_IFDIR | 0o555
READ_ONLY_FILE = stat.S_IFREG | 0o444
FOREVER = 86400.0
"""Seconds for which the kernel may cache attributes and names that do not change."""
NEVER = 0.0
"""The timeout of names that any process may change: the kernel looks them up each time."""


class Attributes(msgspec.Struct, frozen=True):
    """The result of stat without the inode number.

    `mode` includes the file type, `mtime` is in nanoseconds since the epoch. A `uid` or `gid` of
    None stands for the owner of the mount. `device` is the number of the device that a node stands
    for. The kernel may cache the attributes for `timeout` seconds. `are_final` is false if a lookup
    of the name would find others, so that the kernel has to look a listed name up.
    """

    mode: int
    size: int = 0
    mtime: int = 0
    links: int = 1
    uid: int | None = None
    gid: int | None = None
    block_size: int = 4096
    timeout: float = FOREVER
    device: int = 0
    are_final: bool = True


class AttributeChange(msgspec.Struct, frozen=True):
    """The attributes that a caller sets, None for those it leaves alone; `mtime` in nanoseconds."""

    size: int | None = None
    mode: int | None = None
    uid: int | None = None
    gid: int | None = None
    mtime: int | None = None


class Node(Protocol):
    """A file, directory or symlink: anything with an inode."""

    refusal: ClassVar[int]
    """The errno of changes that the node does not support."""
    is_directory: ClassVar[bool]

    @property
    def key(self) -> Key: ...

    @property
    def is_remote(self) -> bool:
        """Whether `attributes`, `xattrs` and `xattr`, of a directory or of one of its children, and
        changes of a directory can wait for the network.
        """
        ...

    def attributes(self) -> Attributes: ...

    async def set_attributes(self, change: AttributeChange, /) -> None:
        """Change the attributes, or raise OSError."""

    def xattrs(self) -> Mapping[str, bytes]:
        """Return the extended attributes that are listed, by their full names."""
        ...

    def xattr(self, name: str) -> bytes | None:
        """Return an extended attribute, which may be one that is not listed, or None."""
        ...

    def set_xattr(self, name: str, value: bytes, /) -> None:
        """Set an extended attribute, or raise OSError."""
        ...

    def remove_xattr(self, name: str, /) -> None:
        """Remove an extended attribute, or raise OSError."""
        ...

    def readlink(self) -> bytes:
        """Return the target of a symlink; raise OSError (EINVAL) for other nodes."""

    def writable(self) -> "WritableFile":
        """Return the node as a file that can be written to, or raise OSError."""


class Call(Enum):
    """A system call that looks a name up."""

    MAKE_DIRECTORY = "mkdir"
    MAKE_FILE = "link, symlink, or open with O_CREAT and O_EXCL"
    WRITE_FILE = "open for writing"
    OTHER = "any other"
    UNKNOWN = "unknown"
    UNKNOWN_OF_COPIER = "unknown, of a program that makes files without looking for them"


class Directory(Node, Protocol):
    """A directory."""

    changes_block: ClassVar[bool]
    """True if `link`, `mkdir`, `rename`, `rmdir`, `symlink` and `unlink` can wait for the disk."""
    is_lasting: ClassVar[bool]
    """True if the listed names never change."""

    def lookup(self, name: str, /) -> Node | None:
        """Return the child with this name, or None."""

    def depends_on_call(self, name: str, /) -> bool:
        """Return whether it depends on the system call what there is under a name.

        A kernel looks a name up before it makes a file or directory of that name, and its request
        does not say why.
        """
        ...

    def seen_by(self, call: "Call", /) -> "Directory":
        """Return this directory as a system call finds it."""
        ...

    def children(self) -> Iterable[tuple[str, Node]]:
        """Return the listed children, sorted by name; a sequence does not change."""
        ...

    def may_block(self, name: str | None, /) -> bool:
        """Return whether `lookup` of this name, or `children` for None, has to read blobs."""

    def entry_timeout(self, child: Node, /) -> float:
        """Return for how many seconds the kernel may cache the name of a child."""

    def version(self) -> int | None:
        """Return a number that differs once the listed names may have changed, or None if the
        kernel may cache names no longer than `entry_timeout`.
        """

    def create(self, name: str, mode: int, uid: int, gid: int, /) -> "WritableFile":
        """Make an empty file."""

    def mkdir(self, name: str, mode: int, uid: int, gid: int, /) -> Node:
        """Make a directory."""

    def link(self, name: str, child: Node, /) -> Node:
        """Give a file a second name, in this directory."""
        ...

    def rename(self, name: str, target: "Directory", new_name: str, /) -> None:
        """Move a child to another directory, which replaces a file but not an image."""

    def symlink(self, name: str, target: str, mountpoint: str, /) -> Node:
        """Make a symlink with this text; an absolute target must lie below `mountpoint`."""

    def unlink(self, name: str, child: Node, /) -> None:
        """Remove a file; `child` is what `lookup` returned for its name."""

    def rmdir(self, name: str, child: "Directory", /) -> None:
        """Remove a directory; `child` is what `lookup` returned for its name."""

    def image_path(self, name: str, /) -> str:
        """Return the path of the image that can be placed here under a name, or raise OSError."""


class Reader(Protocol):
    """A file that is open for reading."""

    def read(self, offset: int, size: int) -> bytes:
        """Return up to `size` bytes from `offset`: fewer only at the end of the file."""

    def read_at_once(self, offset: int, size: int) -> bytes | memoryview | None:
        """Read without waiting, or return None if that is impossible; a returned view is valid
        until the next call.
        """

    def fileno(self) -> int | None:
        """Return the descriptor of a regular file with exactly these bytes, or None."""

    def close(self) -> None: ...


class File(Node, Protocol):
    """A file."""

    @property
    def may_block(self) -> bool:
        """Whether `open` can wait for the disk."""

    @property
    def may_change(self) -> bool:
        """Whether the bytes can change, so that the kernel must not keep them."""
        ...

    def open(self) -> Reader: ...


def is_directory(node: Node) -> TypeGuard[Directory]:
    """Return whether a node is a directory."""
    return node.is_directory


def is_file(node: Node) -> TypeGuard[File]:
    """Return whether a node can be opened as a file; the kernel opens no symlinks."""
    return not node.is_directory


class WritableFile(File, Protocol):
    """A file that can be written to. Call it from the event loop only."""

    def opened(self, number: int) -> int:
        """Count one more open file with this number, and return its FUSE file handle."""

    def opened_for_reading(self) -> None:
        """Count one more open file that is only read, whose bytes are kept if it is removed."""
        ...

    def released_by_reader(self) -> None:
        """Count one such open file less."""
        ...

    async def read(self, offset: int, size: int) -> bytes:
        """Return up to `size` bytes from `offset`: fewer only at the end of the file."""
        ...

    async def write(self, offset: int, data: bytes) -> int: ...

    async def truncate(self, size: int) -> None: ...

    async def flush(self) -> None: ...

    async def sync(self) -> None: ...

    async def released(self) -> None:
        """Count one open file less."""


class ReadOnlyNode:
    """A base for nodes that refuses every change."""

    __slots__ = ()
    refusal: ClassVar[int] = errno.EROFS
    is_directory: ClassVar[bool] = False
    may_change: ClassVar[bool] = False

    @property
    def is_remote(self) -> bool:
        return False

    def xattrs(self) -> Mapping[str, bytes]:
        return {}

    def xattr(self, name: str) -> bytes | None:
        return self.xattrs().get(name)

    def set_xattr(self, _name: str, _value: bytes, /) -> None:
        raise refusal_of(self)

    def remove_xattr(self, _name: str, /) -> None:
        raise refusal_of(self)

    async def set_attributes(self, _change: AttributeChange, /) -> None:
        raise refusal_of(self)

    def readlink(self) -> bytes:
        raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))

    def writable(self) -> WritableFile:
        raise refusal_of(self)


class ReadOnlyDirectory(ReadOnlyNode):
    """A base for directories that refuses every change; its names are not cached."""

    __slots__ = ()
    is_directory: ClassVar[bool] = True
    changes_block: ClassVar[bool] = False
    is_lasting: ClassVar[bool] = False

    def may_block(self, _name: str | None, /) -> bool:
        return False

    def depends_on_call(self, _name: str, /) -> bool:
        return False

    def seen_by(self, _call: Call, /) -> Any:
        return self

    def entry_timeout(self, _child: Node, /) -> float:
        return NEVER

    def version(self) -> int | None:
        return None

    def _refuse(self, *_: Any, **__: Any) -> Any:
        raise refusal_of(self)

    create = mkdir = link = rename = symlink = unlink = rmdir = image_path = _refuse


def refusal_of(node: Node | ReadOnlyNode) -> OSError:
    """Return the error for a change that a node does not support."""
    return OSError(node.refusal, os.strerror(node.refusal))


class BytesReader(Closing, msgspec.Struct, frozen=True):
    """An open file in memory."""

    data: bytes

    def read(self, offset: int, size: int) -> bytes:
        return self.data[offset : offset + size]

    read_at_once = read

    def fileno(self) -> int | None:
        return None


class BytesFile(ReadOnlyNode, msgspec.Struct, frozen=True):
    """A small read-only file in memory; `mtime` is in nanoseconds, `extra` its xattrs."""

    key: str
    data: bytes
    mtime: int = 0
    timeout: float = FOREVER
    extra: Mapping[str, bytes] | None = None
    may_block: ClassVar[bool] = False

    def attributes(self) -> Attributes:
        return Attributes(READ_ONLY_FILE, len(self.data), self.mtime, timeout=self.timeout)

    def xattrs(self) -> Mapping[str, bytes]:
        return self.extra or {}

    def open(self) -> Reader:
        return BytesReader(self.data)


class Symlink(ReadOnlyNode, msgspec.Struct, frozen=True):
    """A symlink; its attributes are not cached."""

    key: str
    target: bytes

    def attributes(self) -> Attributes:
        return Attributes(stat.S_IFLNK | 0o777, len(self.target), timeout=0)

    def readlink(self) -> bytes:
        return self.target


class FixedDirectory(ReadOnlyDirectory, msgspec.Struct, frozen=True):
    """A read-only directory with fixed children, sorted by name."""

    key: str
    nodes: Mapping[str, Node]
    mtime: int = 0
    extra: Mapping[str, bytes] | None = None
    is_remote: bool = False

    def attributes(self) -> Attributes:
        return Attributes(READ_ONLY_DIRECTORY, mtime=self.mtime)

    def xattrs(self) -> Mapping[str, bytes]:
        return self.extra or {}

    def entry_timeout(self, _child: Node, /) -> float:
        return FOREVER

    def lookup(self, name: str, /) -> Node | None:
        return self.nodes.get(name)

    def children(self) -> Iterable[tuple[str, Node]]:
        return self.nodes.items()

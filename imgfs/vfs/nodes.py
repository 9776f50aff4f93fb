"""What stands in the mounted tree, free of any FUSE library.

A node has a key: two nodes with one key are one inode, and what a file's key stands for never
changes. The handlers ask a directory for a child or for all of them, and a file for a reader.
What has to be read from blobs may take as long as the disk likes: `may_block` says so, and then it
is asked for in a worker thread. Everything else may be called inline.
"""

import stat
from collections.abc import Iterable, Mapping
from typing import ClassVar, Protocol

import msgspec

READ_ONLY_DIRECTORY = stat.S_IFDIR | 0o555
READ_ONLY_FILE = stat.S_IFREG | 0o444
FOREVER = 86400.0
"""Seconds that the kernel may keep what does not change."""
NEVER = 0.0
"""Seconds that the kernel may keep what any process may change: it asks each time."""


class Attributes(msgspec.Struct, frozen=True):
    """What stat tells, but for owner and inode number. `mtime` is in nanoseconds, `mode` holds the
    file type.
    """

    mode: int
    size: int = 0
    mtime: int = 0
    links: int = 1
    uid: int | None = None
    gid: int | None = None
    block_size: int = 4096
    timeout: float = FOREVER


class Numbered(Protocol):
    """A key that has a number of its own, of 63 bits, made from what it says."""

    @property
    def number(self) -> int: ...


Key = str | Numbered


class Node(Protocol):
    """Anything that has an inode."""

    @property
    def key(self) -> Key: ...

    def attributes(self) -> Attributes: ...

    def xattrs(self) -> Mapping[str, bytes]: ...


class Directory(Node, Protocol):
    """A directory."""

    def entry_timeout(self, child: Node) -> float:
        """How long, in seconds, the kernel may keep the name of a child."""
        ...

    def lookup(self, name: str) -> Node | None: ...

    def children(self) -> Iterable[tuple[str, Node]]:
        """What is listed, sorted by name."""
        ...

    def may_block(self, name: str | None) -> bool:
        """Whether a child, or with None all of them, cannot be told without reading blobs."""
        ...

    def version(self) -> int | None:
        """Return a number that is another one once the listed names may have changed; None if the
        kernel may keep them only as `entry_timeout` says.
        """
        ...


class Reader(Protocol):
    """An open file."""

    def read(self, offset: int, size: int) -> bytes: ...

    def read_at_once(self, offset: int, size: int) -> bytes | memoryview | None:
        """As `read`, but None where that may have to wait; a view holds until the next call."""
        ...

    def fileno(self) -> int | None:
        """A regular file with these very bytes, if there is one."""
        ...

    def close(self) -> None: ...


class File(Node, Protocol):
    """A file whose content never changes; whether opening it may have to wait for the disk."""

    @property
    def may_block(self) -> bool: ...

    def open(self) -> Reader: ...


class BytesReader(msgspec.Struct, frozen=True):
    """A file in memory, open."""

    data: bytes

    def read(self, offset: int, size: int) -> bytes:
        return self.data[offset : offset + size]

    read_at_once = read

    def fileno(self) -> None:
        """There is no file."""

    def close(self) -> None:
        """Nothing is held."""


class BytesFile(msgspec.Struct, frozen=True):
    """A small read-only file whose bytes are known."""

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


class FixedDirectory(msgspec.Struct, frozen=True):
    """A read-only directory whose children are known, in order."""

    key: str
    nodes: Mapping[str, Node]
    mtime: int = 0
    extra: Mapping[str, bytes] | None = None

    def attributes(self) -> Attributes:
        return Attributes(READ_ONLY_DIRECTORY, mtime=self.mtime)

    def xattrs(self) -> Mapping[str, bytes]:
        return self.extra or {}

    def entry_timeout(self, child: Node) -> float:  # noqa: ARG002 (a `Directory`)
        return FOREVER

    def lookup(self, name: str) -> Node | None:
        return self.nodes.get(name)

    def children(self) -> Iterable[tuple[str, Node]]:
        return self.nodes.items()

    def may_block(self, name: str | None) -> bool:  # noqa: ARG002 (a `Directory`)
        return False

    def version(self) -> None:
        """The names are fixed."""

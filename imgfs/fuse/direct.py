"""Answers lookups, and requests about nodes that never change, those of roots, without pyfuse3.

pyfuse3 and the event loop take many times as long as these answers do. Each use of a path looks the
names of images up, and a program that reads a root sends several requests for each file.
`native/direct.c` passes them on, after `native/trees.c` has answered what it can: names and
attributes in trees that are in memory. A request that must wait, or that fails, is left to
`handlers.py`.
"""

import errno
import os
from collections.abc import Callable, Mapping
from typing import Final

from engine.units import NS_PER_SECOND
from imgfs.fuse import protocol
from imgfs.fuse.errnos import missing_attribute
from imgfs.fuse.handles import Handles, OpenReader
from imgfs.fuse.inodes import Inodes
from imgfs.fuse.killed_callers import KilledCallers
from imgfs.fuse.native_trees import NativeTrees
from imgfs.fuse.open_files import OpenFile, OpenForReading
from imgfs.threads import DiskThreads
from imgfs.vfs.keys import is_in_tree, tree_of
from imgfs.vfs.nodes import Attributes, Directory, Node, is_directory, is_file

_WRITES: Final = os.O_ACCMODE | os.O_TRUNC
_UINT64: Final = (1 << 64) - 1
_ANSWERED_BY_TREES: Final = frozenset(
    {
        protocol.LOOKUP,
        protocol.GETATTR,
        protocol.OPENDIR,
        protocol.READDIR,
        protocol.READDIRPLUS,
        protocol.RELEASEDIR,
    }
)
_OPENED_FILE: Final = protocol.KEEP_CACHE | protocol.NOFLUSH


class DirectAnswers:
    """The answers of one mount. Call them from the event loop only."""

    def __init__(
        self,
        inodes: Inodes,
        trees: NativeTrees,
        files: Handles[OpenFile],
        workers: DiskThreads,
        callers: KilledCallers,
    ) -> None:
        self._inodes = inodes
        self._trees = trees
        self._files = files
        self._workers = workers
        self._callers = callers
        self._owner = (os.getuid(), os.getgid())
        self._methods: Mapping[int, Callable[[int, int, bytes], bytes | int | None]] = {
            protocol.LOOKUP: self._lookup,
            protocol.GETATTR: self._getattr,
            protocol.READLINK: self._readlink,
            protocol.OPEN: self._open,
            protocol.READ: self._read,
            protocol.RELEASE: self._release,
            protocol.GETXATTR: self._getxattr,
            protocol.LISTXATTR: self._listxattr,
        }

    def answer(self, opcode: int, inode: int, pid: int, body: bytes) -> bytes | int | None:
        """Answer a request, as `library.Answer`."""
        try:
            if opcode in _ANSWERED_BY_TREES and is_in_tree(inode):
                self._add_tree(inode)
                return None
            method = self._methods.get(opcode)
            if method is None or not self._inodes.is_at_hand(inode):
                return None
            return method(inode, pid, body)
        except Exception:
            return None  # the handler of pyfuse3 repeats it, and tells what is wrong

    # -- names and attributes ---------------------------------------------------------------------

    def _lookup(self, inode: int, _pid: int, body: bytes) -> bytes | int | None:
        directory = self._directory(inode)
        name = os.fsdecode(body[:-1])
        if directory.may_block(name) or directory.depends_on_call(name):
            return None
        child = directory.lookup(name)
        if child is None:
            return errno.ENOENT
        return None if child.is_remote else self._entry(directory, child, inode)

    def _getattr(self, inode: int, _pid: int, _body: bytes) -> bytes | None:
        node = self._inodes.get(inode)
        if node.is_remote:
            return None
        attributes = node.attributes()
        return protocol.ATTR_OUT.pack(*_timeout(attributes.timeout), *self._attr(attributes, inode))

    def _readlink(self, inode: int, _pid: int, _body: bytes) -> bytes:
        return self._inodes.get(inode).readlink()

    def _getxattr(self, inode: int, _pid: int, body: bytes) -> bytes | int | None:
        node = self._inodes.get(inode)
        if node.is_remote:
            return None
        name = os.fsdecode(body[protocol.GETXATTR_IN.size : -1])
        value = node.xattr(name)
        return missing_attribute(name) if value is None else _sized(value, body)

    def _listxattr(self, inode: int, _pid: int, body: bytes) -> bytes | int | None:
        node = self._inodes.get(inode)
        if node.is_remote:
            return None
        return _sized(b"".join(os.fsencode(name) + b"\0" for name in node.xattrs()), body)

    # -- files ------------------------------------------------------------------------------------

    def _open(self, inode: int, pid: int, body: bytes) -> bytes | None:
        flags, _ = protocol.OPEN_IN.unpack(body)
        file = self._inodes.get(inode)
        if flags & _WRITES or not is_file(file) or file.may_block:
            return None
        reader = OpenReader()
        reader.open(file.open)
        number = self._files.add(OpenForReading(reader, pid, self._workers, self._callers))
        return protocol.OPEN_OUT.pack(number, _OPENED_FILE, 0)

    def _read(self, _inode: int, _pid: int, body: bytes) -> bytes | None:
        handle, offset, size = protocol.READ_IN.unpack(body)
        data = self._files.get(handle).read_at_once(offset, size)
        return None if data is None else bytes(data)

    def _release(self, _inode: int, _pid: int, body: bytes) -> bytes | None:
        (handle,) = protocol.RELEASE_IN.unpack(body)
        if not self._files.get(handle).release_at_once():
            return None
        self._files.remove(handle)
        return b""

    # -- helpers ----------------------------------------------------------------------------------

    def _add_tree(self, inode: int) -> None:
        """Let the native library answer this request and the next ones about a tree, if it is in
        memory.
        """
        number = tree_of(inode)
        root = self._inodes.tree(number)
        if root.source.is_made():
            self._trees.add(number, root, self._inodes.parent(number))

    def _directory(self, inode: int) -> Directory:
        node = self._inodes.get(inode)
        if not is_directory(node):
            raise NotADirectoryError
        return node

    def _entry(self, directory: Directory, child: Node, parent: int) -> bytes:
        """Count a lookup of a child, and return it for the kernel."""
        attributes = child.attributes()
        inode = self._inodes.look_up(child, parent)
        return self._entry_out(directory, child, attributes, inode)

    def _entry_out(
        self, directory: Directory, child: Node, attributes: Attributes, inode: int
    ) -> bytes:
        name_timeout, name_rest = _timeout(directory.entry_timeout(child))
        timeout, rest = _timeout(attributes.timeout)
        return protocol.ENTRY_OUT.pack(
            inode,
            self._inodes.generation(inode),
            name_timeout,
            timeout,
            name_rest,
            rest,
            *self._attr(attributes, inode),
        )

    def _attr(self, attributes: Attributes, inode: int) -> tuple[int, ...]:
        """Return the fields of fuse_attr."""
        size = attributes.size
        seconds, rest = divmod(attributes.mtime, NS_PER_SECOND)
        seconds &= _UINT64
        uid, gid = attributes.uid, attributes.gid
        return (
            inode,
            size,
            -(-size // 512),
            seconds,
            seconds,
            seconds,
            rest,
            rest,
            rest,
            attributes.mode,
            attributes.links,
            self._owner[0] if uid is None else uid,
            self._owner[1] if gid is None else gid,
            attributes.device,
            attributes.block_size,
            0,
        )


def _timeout(seconds: float) -> tuple[int, int]:
    """Return a time in seconds and nanoseconds."""
    whole = int(seconds)
    return whole, int((seconds - whole) * NS_PER_SECOND)


def _sized(value: bytes, body: bytes) -> bytes | int:
    """Return a value, its size if the caller asks for that, or ERANGE if he has no room."""
    (room,) = protocol.GETXATTR_IN.unpack_from(body)
    if not room:
        return protocol.GETXATTR_OUT.pack(len(value))
    return value if len(value) <= room else errno.ERANGE

"""Calls of nodes on behalf of the kernel: in the event loop, or in a worker thread where they wait.

`pid` is the process that waits for the answer: once it is killed, the call is cancelled.
"""

import errno
from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar, TypeVarTuple

from pyfuse3 import FUSEError

from engine.errors import NotFound
from imgfs.fuse.handles import OpenReader
from imgfs.fuse.inodes import Inodes
from imgfs.fuse.killed_callers import KilledCallers
from imgfs.fuse.open_directories import listed
from imgfs.threads import DiskThreads
from imgfs.vfs.nodes import Attributes, Directory, File, Node, is_directory

T = TypeVar("T")
Ts = TypeVarTuple("Ts")


class NodeCalls:
    """Finds nodes by inode and by name, and calls them."""

    def __init__(self, inodes: Inodes, workers: DiskThreads, callers: KilledCallers) -> None:
        self._inodes = inodes
        self._workers = workers
        self._callers = callers

    async def node(self, inode: int, pid: int) -> Node:
        """Return the node of an inode; raise FUSEError (ESTALE) if it is gone."""
        try:
            if self._inodes.is_at_hand(inode):
                return self._inodes.get(inode)
            with self._callers.unless_killed(pid):
                return await self._workers.read(self._inodes.get, inode)
        except (KeyError, NotFound):
            raise FUSEError(errno.ESTALE) from None

    async def directory(self, inode: int, pid: int) -> Directory:
        """Return the directory of an inode; raise FUSEError (ESTALE, ENOTDIR)."""
        node = await self.node(inode, pid)
        if not is_directory(node):
            raise FUSEError(errno.ENOTDIR)
        return node

    async def ask(self, node: Node, pid: int, question: Callable[[*Ts], T], *args: *Ts) -> T:
        """Call a method that tells the attributes of `node`, and return its result."""
        if not node.is_remote:
            return question(*args)
        with self._callers.unless_killed(pid):
            return await self._workers.read(question, *args)

    async def find(self, parent: Directory, name: str, pid: int) -> Node | None:
        """Return the child with a name, or None."""
        if not parent.may_block(name):
            return parent.lookup(name)
        with self._callers.unless_killed(pid):
            return await self._workers.read(parent.lookup, name)

    async def child(self, parent: Directory, name: str, pid: int) -> Node:
        """Return the child with a name; raise FUSEError (ENOENT) if there is none."""
        child = await self.find(parent, name, pid)
        if child is None:
            raise FUSEError(errno.ENOENT)
        return child

    async def children(self, directory: Directory, pid: int) -> Sequence[tuple[str, Node]]:
        """Return the listed children."""
        if not directory.may_block(None):
            return listed(directory)
        with self._callers.unless_killed(pid):
            return await self._workers.read(listed, directory)

    async def attributes(
        self, directory: Directory, children: Sequence[tuple[str, Node]], pid: int
    ) -> Mapping[str, Attributes]:
        """Return the attributes of the children of a directory that are remote, by their names."""
        return await self.ask(directory, pid, _remote, children) if directory.is_remote else {}

    async def apply(
        self, directory: Directory, pid: int, change: Callable[[*Ts], T], *args: *Ts
    ) -> T:
        """Call a method that changes `directory`, and return its result."""
        if not directory.changes_block and not directory.is_remote:
            return change(*args)
        with self._callers.unless_killed(pid):
            return await self._workers.write(change, *args)

    async def reader(self, file: File, pid: int) -> OpenReader:
        """Open a file for reading."""
        opened = OpenReader()
        if not file.may_block:
            opened.open(file.open)
            return opened
        try:
            with self._callers.unless_killed(pid):
                await self._workers.read(opened.open, file.open)
        except BaseException:
            opened.close()
            raise
        return opened


def _remote(children: Sequence[tuple[str, Node]]) -> Mapping[str, Attributes]:
    return {name: node.attributes() for name, node in children if node.is_remote}

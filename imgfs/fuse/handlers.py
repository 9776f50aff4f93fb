"""The pyfuse3 request handlers: they look nodes up, call them and convert the results.

Handlers raise only FUSEError. Calls that query the database take microseconds and run in the event
loop; calls that write or can wait for a blob, as the node says, run in a worker thread.
"""

import errno
import functools
import os
import stat
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Final, ParamSpec, TypeVar, TypeVarTuple

import pyfuse3
from pyfuse3 import EntryAttributes, FileInfo, FUSEError, RequestContext, SetattrFields

from imgfs.fuse.callers import call_of
from imgfs.fuse.direct import DirectAnswers
from imgfs.fuse.errnos import errno_of, missing_attribute
from imgfs.fuse.handles import Handles, OpenReader
from imgfs.fuse.inodes import Inodes
from imgfs.fuse.killed_callers import KilledCallers
from imgfs.fuse.name_cache import NameCache
from imgfs.fuse.native.library import LASTING, PLAIN, NativeLibrary, number_of
from imgfs.fuse.native_trees import NativeTrees
from imgfs.fuse.node_calls import NodeCalls
from imgfs.fuse.open_directories import Listing, OpenDirectory
from imgfs.fuse.open_files import OpenFile, OpenForLiveReading, OpenForReading, OpenForWriting
from imgfs.fuse.passthrough import Backed, Passthrough
from imgfs.fuse.replies import Replies, change_of
from imgfs.threads import DiskThreads
from imgfs.vfs.names import LONGEST
from imgfs.vfs.nodes import (
    Directory,
    File,
    Node,
    WritableFile,
    is_directory,
    is_file,
    refusal_of,
)

_ANY_EXECUTES: Final = stat.S_IXUSR | stat.S_IXGRP | stat.S_IXOTH

P = ParamSpec("P")
T = TypeVar("T")
Ts = TypeVarTuple("Ts")


def _as_fuse_error(handler: Callable[P, Awaitable[T]]) -> Callable[P, Coroutine[Any, Any, T]]:
    """Make a handler raise FUSEError with the errno of any exception."""

    @functools.wraps(handler)
    async def translated(*args: P.args, **kwargs: P.kwargs) -> T:
        try:
            return await handler(*args, **kwargs)
        except FUSEError:
            raise
        except Exception as error:
            raise FUSEError(errno_of(error)) from error

    return translated


class Operations(pyfuse3.Operations):
    """The handlers of one mount."""

    supports_dot_lookup = False
    enable_writeback_cache = False
    enable_acl = False

    def __init__(
        self,
        inodes: Inodes,
        names: NameCache,
        passthrough: Passthrough,
        native: NativeLibrary | str,
        workers: DiskThreads,
        store: Path,
        mountpoints: Sequence[Path],
    ) -> None:
        """`native` is what `library.load` returned, `mountpoints` are the paths by which the mount
        is known.
        """
        super().__init__()
        self.inodes = inodes
        self._names = names
        self._passthrough = passthrough
        self._store = store
        self._mountpoints = tuple(map(str, mountpoints))
        self._workers = workers
        self.callers = KilledCallers()
        self._owner = os.getuid()
        self._nodes = NodeCalls(inodes, workers, self.callers)
        self._replies = Replies(inodes, names, (self._owner, os.getgid()))
        self._files: Handles[OpenFile] = Handles()
        self._directories: Handles[OpenDirectory] = Handles()
        self._native = native
        self._trees = NativeTrees(native)

    def answer_directly(self) -> None:
        """Let the native library answer requests, or pass them to `DirectAnswers`, from now on."""
        if not isinstance(self._native, str):
            answers = DirectAnswers(
                self.inodes, self._trees, self._files, self._workers, self.callers
            )
            self._native.imgfs_direct_begin(answers.answer)

    # -- names and attributes ---------------------------------------------------------------------

    @_as_fuse_error
    async def lookup(self, parent_inode: int, name: bytes, ctx: RequestContext) -> EntryAttributes:
        parent = await self._nodes.directory(parent_inode, ctx.pid)
        text = os.fsdecode(name)
        if parent.depends_on_call(text):
            parent = parent.seen_by(call_of(ctx.pid))
        child = await self._nodes.child(parent, text, ctx.pid)
        attributes = await self._nodes.ask(child, ctx.pid, child.attributes)
        timeout = parent.entry_timeout(child)
        return self._replies.entry(child, attributes, timeout, parent_inode)

    @_as_fuse_error
    async def access(self, inode: int, mode: int, ctx: RequestContext) -> bool:
        """Return whether a caller has access, where the kernel does not check the modes itself.

        The owner is always granted write access, because `rm` prompts before it removes a file
        without write permission. Root is granted what it has on a disk: all but to run what nobody
        may run.
        """
        node = await self._nodes.node(inode, ctx.pid)
        modes = (await self._nodes.ask(node, ctx.pid, node.attributes)).mode
        if ctx.uid == 0:
            granted = os.R_OK | os.W_OK
            if node.is_directory or modes & _ANY_EXECUTES:
                granted |= os.X_OK
        elif self._is_owner(ctx):
            granted = modes >> 6 & 0o7 | os.W_OK
        else:
            granted = modes & ~os.W_OK & 0o7
        return mode & 0o7 & ~granted == 0

    async def forget(self, inode_list: Sequence[tuple[int, int]]) -> None:
        for inode, count in inode_list:
            if self.inodes.forget(inode, count):
                self._passthrough.forget(inode)
                self._trees.forget(inode)

    @_as_fuse_error
    async def getattr(self, inode: int, ctx: RequestContext) -> EntryAttributes:
        return await self._attributes(await self._nodes.node(inode, ctx.pid), inode, ctx.pid)

    @_as_fuse_error
    async def setattr(
        self,
        inode: int,
        attr: EntryAttributes,
        fields: SetattrFields,
        fh: int | None,
        ctx: RequestContext,
    ) -> EntryAttributes:
        node = await self._nodes.node(inode, ctx.pid)
        self._require_owner(ctx)
        await node.set_attributes(change_of(attr, fields))
        return await self._attributes(node, inode, ctx.pid)

    @_as_fuse_error
    async def readlink(self, inode: int, ctx: RequestContext) -> bytes:
        return (await self._nodes.node(inode, ctx.pid)).readlink()

    @_as_fuse_error
    async def getxattr(self, inode: int, name: bytes, ctx: RequestContext) -> bytes:
        node = await self._nodes.node(inode, ctx.pid)
        value = await self._nodes.ask(node, ctx.pid, node.xattr, os.fsdecode(name))
        if value is None:
            raise FUSEError(missing_attribute(os.fsdecode(name)))
        return value

    @_as_fuse_error
    async def listxattr(self, inode: int, ctx: RequestContext) -> Sequence[bytes]:
        node = await self._nodes.node(inode, ctx.pid)
        return [*map(os.fsencode, await self._nodes.ask(node, ctx.pid, node.xattrs))]

    @_as_fuse_error
    async def setxattr(self, inode: int, name: bytes, value: bytes, ctx: RequestContext) -> None:
        self._require_owner(ctx)
        (await self._nodes.node(inode, ctx.pid)).set_xattr(os.fsdecode(name), value)

    @_as_fuse_error
    async def removexattr(self, inode: int, name: bytes, ctx: RequestContext) -> None:
        self._require_owner(ctx)
        (await self._nodes.node(inode, ctx.pid)).remove_xattr(os.fsdecode(name))

    @_as_fuse_error
    async def statfs(self, ctx: RequestContext) -> pyfuse3.StatvfsData:
        with self.callers.unless_killed(ctx.pid):
            disk = await self._workers.read(os.statvfs, self._store)
        result = pyfuse3.StatvfsData()
        sizes = ("bsize", "frsize", "blocks", "bfree", "bavail", "files", "ffree", "favail")
        for size in sizes:
            setattr(result, f"f_{size}", getattr(disk, f"f_{size}"))
        result.f_namemax = LONGEST
        return result

    # -- directories ------------------------------------------------------------------------------

    @_as_fuse_error
    async def opendir(self, inode: int, ctx: RequestContext) -> int:
        directory = await self._nodes.directory(inode, ctx.pid)
        listing = await self._listing(directory, ctx.pid)
        opened = OpenDirectory(inode, self.inodes.parent(inode), directory, ctx.pid, listing)
        number = self._directories.add(opened)
        return number | LASTING if directory.is_lasting else number

    @_as_fuse_error
    async def readdir(self, fh: int, start_id: int, token: pyfuse3.ReaddirToken) -> None:
        """Reply with children; what follows `imgfs_listing_begin` must not await anything, because
        `listing.c` relies on it.
        """
        number = number_of(fh)
        opened = self._directories.get(number)
        self._names.read(number)
        if start_id == 0:
            if opened.is_old():
                opened.listing = await self._listing(opened.directory, opened.pid)
            opened.was_read = True
        if not isinstance(self._native, str):
            self._native.imgfs_listing_begin(fh)
        if fh & PLAIN:
            self._replies.list_names(opened, start_id, token)
        else:
            self._replies.list_entries(opened, start_id, token, number)

    @_as_fuse_error
    async def releasedir(self, fh: int) -> None:
        self._names.read(number_of(fh))
        self._directories.remove(number_of(fh))

    async def fsyncdir(self, fh: int, datasync: bool) -> None:
        """Do nothing: listed changes are durable."""

    # -- files ------------------------------------------------------------------------------------

    @_as_fuse_error
    async def open(self, inode: int, flags: int, ctx: RequestContext) -> FileInfo:
        node = await self._nodes.node(inode, ctx.pid)
        if flags & os.O_ACCMODE != os.O_RDONLY or flags & os.O_TRUNC:
            return await self._open_for_writing(await self._writable(inode, ctx), flags, ctx.pid)
        if not is_file(node):
            raise FUSEError(errno.EISDIR)
        if node.may_change:
            number = self._files.add(OpenForLiveReading(node.writable(), ctx.pid, self.callers))
            return FileInfo(fh=number, direct_io=True, keep_cache=False)
        backed = self._passthrough.known(inode)
        if backed is None:
            reader = await self._nodes.reader(node, ctx.pid)
            backed = await self._backed(inode, node, reader, ctx.pid)
            if backed is None:
                opened = OpenForReading(reader, ctx.pid, self._workers, self.callers)
                number = self._files.add(opened)
                return FileInfo(fh=number, keep_cache=True)
            reader.close()
        return FileInfo(fh=backed.opened(self._files.add(backed)), keep_cache=False)

    @_as_fuse_error
    async def create(
        self, parent_inode: int, name: bytes, mode: int, flags: int, ctx: RequestContext
    ) -> tuple[FileInfo, EntryAttributes]:
        file = await self._create(parent_inode, name, mode, ctx)
        opened = await self._open_for_writing(file, flags & ~os.O_TRUNC, ctx.pid)
        return opened, self._replies.entry(file, file.attributes(), 0)

    @_as_fuse_error
    async def mknod(
        self, parent_inode: int, name: bytes, mode: int, rdev: int, ctx: RequestContext
    ) -> EntryAttributes:
        if not stat.S_ISREG(mode):
            raise refusal_of(await self._nodes.directory(parent_inode, ctx.pid))
        file = await self._create(parent_inode, name, mode, ctx)
        return self._replies.entry(file, file.attributes(), 0)

    @_as_fuse_error
    async def read(self, fh: int, off: int, size: int) -> bytes:
        return await self._files.get(number_of(fh)).read(off, size)  # type: ignore[return-value] # any buffer

    @_as_fuse_error
    async def write(self, fh: int, off: int, buf: bytes) -> int:
        return await self._files.get(number_of(fh)).write(off, buf)

    @_as_fuse_error
    async def flush(self, fh: int) -> None:
        await self._files.get(number_of(fh)).flush()

    @_as_fuse_error
    async def fsync(self, fh: int, datasync: bool) -> None:
        await self._files.get(number_of(fh)).sync()

    @_as_fuse_error
    async def release(self, fh: int) -> None:
        await self._files.remove(number_of(fh)).release()

    # -- changes of names ------------------------------------------------------------------------

    @_as_fuse_error
    async def rename(
        self,
        parent_inode_old: int,
        name_old: bytes,
        parent_inode_new: int,
        name_new: bytes,
        flags: int,
        ctx: RequestContext,
    ) -> None:
        self._require_owner(ctx)
        old = await self._nodes.directory(parent_inode_old, ctx.pid)
        new = await self._nodes.directory(parent_inode_new, ctx.pid)
        before, after = os.fsdecode(name_old), os.fsdecode(name_new)
        if flags & pyfuse3.RENAME_EXCHANGE:
            raise FUSEError(errno.EINVAL)
        if flags & pyfuse3.RENAME_NOREPLACE and await self._nodes.find(new, after, ctx.pid):
            raise FUSEError(errno.EEXIST)
        await self._nodes.apply(old, ctx.pid, old.rename, before, new, after)

    @_as_fuse_error
    async def symlink(
        self, parent_inode: int, name: bytes, target: bytes, ctx: RequestContext
    ) -> EntryAttributes:
        self._require_owner(ctx)
        parent = await self._nodes.directory(parent_inode, ctx.pid)
        text = os.fsdecode(target)
        mountpoint = self._mountpoint_of(text)
        link = await self._nodes.apply(
            parent, ctx.pid, parent.symlink, os.fsdecode(name), text, mountpoint
        )
        return self._replies.entry(link, link.attributes(), 0)

    @_as_fuse_error
    async def rmdir(self, parent_inode: int, name: bytes, ctx: RequestContext) -> None:
        self._require_owner(ctx)
        parent = await self._nodes.directory(parent_inode, ctx.pid)
        child = await self._nodes.child(parent, os.fsdecode(name), ctx.pid)
        if not is_directory(child):
            raise FUSEError(errno.ENOTDIR)
        await self._nodes.apply(parent, ctx.pid, parent.rmdir, os.fsdecode(name), child)
        self.inodes.retire(child.key)

    @_as_fuse_error
    async def unlink(self, parent_inode: int, name: bytes, ctx: RequestContext) -> None:
        self._require_owner(ctx)
        parent = await self._nodes.directory(parent_inode, ctx.pid)
        child = await self._nodes.child(parent, os.fsdecode(name), ctx.pid)
        await self._nodes.apply(parent, ctx.pid, parent.unlink, os.fsdecode(name), child)

    @_as_fuse_error
    async def mkdir(
        self, parent_inode: int, name: bytes, mode: int, ctx: RequestContext
    ) -> EntryAttributes:
        self._require_owner(ctx)
        parent = await self._nodes.directory(parent_inode, ctx.pid)
        made = await self._nodes.apply(
            parent, ctx.pid, parent.mkdir, os.fsdecode(name), mode & ~ctx.umask, ctx.uid, ctx.gid
        )
        attributes = await self._nodes.ask(made, ctx.pid, made.attributes)
        return self._replies.entry(made, attributes, 0, parent_inode)

    @_as_fuse_error
    async def link(
        self, inode: int, new_parent_inode: int, new_name: bytes, ctx: RequestContext
    ) -> EntryAttributes:
        self._require_owner(ctx)
        parent = await self._nodes.directory(new_parent_inode, ctx.pid)
        child = await self._nodes.node(inode, ctx.pid)
        made = await self._nodes.apply(parent, ctx.pid, parent.link, os.fsdecode(new_name), child)
        return self._replies.entry(made, made.attributes(), 0)

    # -- helpers ----------------------------------------------------------------------------------

    @property
    def open_handles(self) -> int:
        """The number of open files and directories."""
        return len(self._files) + len(self._directories)

    async def _listing(self, directory: Directory, pid: int) -> Listing:
        """Return the children of a directory as they are now."""
        version = directory.version()
        children = await self._nodes.children(directory, pid)
        return Listing(version, children, await self._nodes.attributes(directory, children, pid))

    async def _attributes(self, node: Node, inode: int, pid: int) -> EntryAttributes:
        return self._replies.attributes(await self._nodes.ask(node, pid, node.attributes), inode)

    async def _backed(self, inode: int, file: File, reader: OpenReader, pid: int) -> Backed | None:
        """Let the kernel read a file itself, whose reader is closed after an error; return None if
        that is impossible.
        """
        descriptor = reader.fileno()
        if descriptor is None:
            self._passthrough.refuse(inode)
            return None
        try:
            attributes = await self._nodes.ask(file, pid, file.attributes)
        except BaseException:
            reader.close()
            raise
        return self._passthrough.back(inode, descriptor, attributes.size)

    def _mountpoint_of(self, path: str) -> str:
        """Return the name of the mount by which a path leads into it, or any if it does not."""
        first, *_ = self._mountpoints
        return next((each for each in self._mountpoints if path.startswith(f"{each}/")), first)

    async def _writable(self, inode: int, ctx: RequestContext) -> WritableFile:
        file = (await self._nodes.node(inode, ctx.pid)).writable()
        self._require_owner(ctx)
        return file

    async def _create(
        self, parent_inode: int, name: bytes, mode: int, ctx: RequestContext
    ) -> WritableFile:
        self._require_owner(ctx)
        parent = await self._nodes.directory(parent_inode, ctx.pid)
        return parent.create(os.fsdecode(name), mode & ~ctx.umask, ctx.uid, ctx.gid)

    def _is_owner(self, ctx: RequestContext) -> bool:
        return ctx.uid in (0, self._owner)

    def _require_owner(self, ctx: RequestContext) -> None:
        """Refuse every caller but root and the owner of the mount.

        The modes do not suffice: the kernel does not check them in every mount, and copiers set
        those of uploads.
        """
        if not self._is_owner(ctx):
            raise FUSEError(errno.EACCES)

    async def _open_for_writing(self, file: WritableFile, flags: int, pid: int) -> FileInfo:
        opened = OpenForWriting(file, pid, self.callers)
        number = self._files.add(opened)
        handle = file.opened(number)  # before it waits, so that a release leaves the file to it
        if flags & os.O_TRUNC:
            try:
                with self.callers.unless_killed(pid):
                    await file.truncate(0)
            except BaseException:
                self._files.remove(number)
                with suppress(InterruptedError), self.callers.unless_killed(pid):
                    await opened.release()
                raise
        return FileInfo(fh=handle, direct_io=True, keep_cache=False)

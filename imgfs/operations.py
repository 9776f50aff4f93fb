"""The pyfuse3 handlers: look up, delegate, convert; nothing else.

Only FUSEError leaves a handler. The engine is called inline where it asks its database, which takes
microseconds, and in a worker thread where it writes or may have to wait for a blob.
"""

import errno
import functools
import os
import posixpath
import stat
import time
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from pathlib import Path
from typing import Any, ParamSpec, TypeGuard, TypeVar

import msgspec
import pyfuse3
from pyfuse3 import EntryAttributes, FileInfo, FUSEError, RequestContext, SetattrFields

from imgfs.callers import Callers
from imgfs.errnos import errno_of
from imgfs.handles import Handles, OpenReader
from imgfs.image_tree import ImageDirectory, ImageTree, NameDirectory
from imgfs.import_dir import ImportDirectory
from imgfs.inodes import Inodes
from imgfs.name_cache import KEPT, NameCache
from imgfs.nodes import Attributes, Directory, File, Node
from imgfs.passthrough import Backed, Passthrough
from imgfs.removals import RemovableDirectory
from imgfs.session import PLAIN, number_of
from imgfs.upload import Upload
from imgfs.workers import Workers

_DOTS = 2
"""The entries that come first in every listing: `.` and `..`."""
P = ParamSpec("P")
T = TypeVar("T")


def _told(handler: Callable[P, Awaitable[T]]) -> Callable[P, Coroutine[Any, Any, T]]:
    """Whatever goes wrong in a handler becomes an errno."""

    @functools.wraps(handler)
    async def translated(*args: P.args, **kwargs: P.kwargs) -> T:
        try:
            return await handler(*args, **kwargs)
        except FUSEError:
            raise
        except Exception as error:
            raise FUSEError(errno_of(error)) from error

    return translated


class _NewLink(msgspec.Struct, frozen=True):
    """The symlink that `ln -s` made, until it is looked up again and is a directory."""

    key: str
    target: bytes

    def attributes(self) -> Attributes:
        return Attributes(stat.S_IFLNK | 0o777, len(self.target), timeout=0)

    def xattrs(self) -> Mapping[str, bytes]:
        return {}


class _OpenUpload(msgspec.Struct, frozen=True):
    """A file that `pid` has opened to write."""

    upload: Upload
    pid: int


class _OpenDirectory(msgspec.Struct):
    """A directory that is being listed: its inode number and its parent's, and what was in it when
    the store had this version.
    """

    inode: int
    parent: int
    directory: Directory
    version: int | None
    children: Sequence[tuple[str, Node]]
    was_read: bool = False

    def begin(self) -> None:
        """List it from its start: again, if it was read before (`rewinddir`) or something has
        changed since it was opened.

        Where that may have to wait, in a repository, the names stay: they are those of a layout.
        """
        is_old = self.was_read or self.directory.version() != self.version
        if is_old and not self.directory.waits(None):
            self.version = self.directory.version()
            self.children = _listed(self.directory)
        self.was_read = True


class Operations(pyfuse3.Operations):
    """One mounted tree."""

    supports_dot_lookup = False
    enable_writeback_cache = False
    enable_acl = False

    def __init__(
        self,
        tree: ImageTree,
        inodes: Inodes,
        names: NameCache,
        passthrough: Passthrough,
        workers: Workers,
        store: Path,
        mountpoint: Path,
    ) -> None:
        super().__init__()
        self.inodes = inodes
        self._names = names
        self._passthrough = passthrough
        self._tree = tree
        self._store = store
        self._mountpoint = mountpoint
        self._workers = workers
        self.callers = Callers()
        self._owner = (os.getuid(), os.getgid())
        self._files: Handles[OpenReader | Backed | _OpenUpload] = Handles()
        self._directories: Handles[_OpenDirectory] = Handles()

    # -- names and attributes ---------------------------------------------------------------------

    @_told
    async def lookup(self, parent_inode: int, name: bytes, ctx: RequestContext) -> EntryAttributes:
        parent = self._directory(parent_inode)
        child = await self._child(parent, os.fsdecode(name), ctx.pid)
        return self._entry(child, parent.keeps(child), parent_inode)

    @_told
    async def access(self, inode: int, mode: int, ctx: RequestContext) -> bool:
        """Say what a caller may do, where the kernel does not decide by the modes.

        The owner is told that he may write wherever he may remove: `rm` asks before it removes a
        file that it may not write to.
        """
        modes = self._node(inode).attributes().mode
        granted = modes >> 6 & 0o7 | os.W_OK if self._is_owner(ctx) else modes & ~os.W_OK & 0o7
        return mode & 0o7 & ~granted == 0

    async def forget(self, inode_list: Sequence[tuple[int, int]]) -> None:
        for inode, count in inode_list:
            if self.inodes.forget(inode, count):
                self._passthrough.forget(inode)

    @_told
    async def getattr(self, inode: int, ctx: RequestContext) -> EntryAttributes:
        return self._attributes(self._node(inode), inode)

    @_told
    async def setattr(
        self,
        inode: int,
        attr: EntryAttributes,
        fields: SetattrFields,
        fh: int | None,
        ctx: RequestContext,
    ) -> EntryAttributes:
        node = self._node(inode)
        self._require_owner(ctx)
        if isinstance(node, Upload):
            await _set_attributes(node, attr, fields)
        elif not isinstance(node, ImportDirectory):
            raise _refusal(node)
        return self._attributes(node, inode)

    @_told
    async def readlink(self, inode: int, ctx: RequestContext) -> bytes:
        node = self._node(inode)
        if not isinstance(node, _NewLink):
            raise FUSEError(errno.EINVAL)
        return node.target

    @_told
    async def getxattr(self, inode: int, name: bytes, ctx: RequestContext) -> bytes:
        if not name.startswith(b"user."):  # ls asks every file for them until it hears this
            raise FUSEError(errno.EOPNOTSUPP)
        value = self._node(inode).xattrs().get(os.fsdecode(name))
        if value is None:
            raise FUSEError(pyfuse3.ENOATTR)
        return value

    @_told
    async def listxattr(self, inode: int, ctx: RequestContext) -> Sequence[bytes]:
        return [name.encode() for name in self._node(inode).xattrs()]

    @_told
    async def setxattr(self, inode: int, name: bytes, value: bytes, ctx: RequestContext) -> None:
        node = self._node(inode)
        if not isinstance(node, Upload):
            raise _refusal(node)
        self._require_owner(ctx)
        node.set_xattr(os.fsdecode(name), value)

    @_told
    async def removexattr(self, inode: int, name: bytes, ctx: RequestContext) -> None:
        node = self._node(inode)
        if not isinstance(node, Upload):
            raise _refusal(node)
        self._require_owner(ctx)
        node.remove_xattr(os.fsdecode(name))

    @_told
    async def statfs(self, ctx: RequestContext) -> pyfuse3.StatvfsData:
        with self.callers.unless_killed(ctx.pid):
            disk = await self._workers.read(os.statvfs, self._store)
        told = pyfuse3.StatvfsData()
        sizes = ("bsize", "frsize", "blocks", "bfree", "bavail", "files", "ffree", "favail")
        for size in sizes:
            setattr(told, f"f_{size}", getattr(disk, f"f_{size}"))
        told.f_namemax = 255
        return told

    # -- directories ------------------------------------------------------------------------------

    @_told
    async def opendir(self, inode: int, ctx: RequestContext) -> int:
        directory = self._directory(inode)
        version = directory.version()
        children = await self._children(directory, ctx.pid)
        parent = self.inodes.parent(inode)
        return self._directories.add(_OpenDirectory(inode, parent, directory, version, children))

    @_told
    async def readdir(self, fh: int, start_id: int, token: pyfuse3.ReaddirToken) -> None:
        """This must not wait for anything: `listing.c` relies on it."""
        number = number_of(fh)
        opened = self._directories.get(number)
        self._names.read(number)
        if start_id == 0:
            opened.begin()
        if not _list_dots(opened, start_id, token):
            return
        start, children = max(0, start_id - _DOTS), opened.children
        if fh & PLAIN:
            self._list_names(children, start, token)
            return
        keep_until = self._names.keep(opened.version)
        for index in range(start, len(children)):
            name, node = children[index]
            inode = self.inodes.look_up(node, opened.inode)
            is_kept = keep_until and time.monotonic() < keep_until
            timeout = KEPT if is_kept else opened.directory.keeps(node)
            attributes = self._attributes(node, inode, timeout)
            following = index + _DOTS + 1
            if not pyfuse3.readdir_reply(token, os.fsencode(name), attributes, following):
                self.inodes.forget(inode, 1)
                break
        if keep_until and start < len(children):
            self._names.answered(number)

    def _list_names(
        self, children: Sequence[tuple[str, Node]], start: int, token: pyfuse3.ReaddirToken
    ) -> None:
        told = EntryAttributes()
        for number in range(start, len(children)):
            name, node = children[number]
            told.st_ino = self.inodes.number(node.key)
            told.st_mode = node.attributes().mode
            if not pyfuse3.readdir_reply(
                token, name.encode(errors="surrogateescape"), told, number + _DOTS + 1
            ):
                return

    @_told
    async def releasedir(self, fh: int) -> None:
        self._names.read(fh)
        self._directories.remove(fh)

    async def fsyncdir(self, fh: int, datasync: bool) -> None:
        """What is listed is durable."""

    # -- files ------------------------------------------------------------------------------------

    @_told
    async def open(self, inode: int, flags: int, ctx: RequestContext) -> FileInfo:
        node = self._node(inode)
        writes = flags & os.O_ACCMODE != os.O_RDONLY or flags & os.O_TRUNC
        if isinstance(node, Upload):
            if not writes:
                raise FUSEError(errno.EOPNOTSUPP)
            self._require_owner(ctx)
            return await self._open_upload(node, flags, ctx.pid)
        if writes:
            raise _refusal(node)
        backed = self._passthrough.known(inode)
        if backed is None:
            reader = await self._open_file(node, ctx.pid)  # type: ignore[arg-type]
            descriptor = reader.fileno()
            if descriptor is not None:
                backed = self._passthrough.back(inode, descriptor, node.attributes().size)
            if backed is None:
                return FileInfo(fh=self._files.add(reader), keep_cache=True)
            reader.close()
        return FileInfo(fh=backed.opened(self._files.add(backed)), keep_cache=False)

    @_told
    async def create(
        self, parent_inode: int, name: bytes, mode: int, flags: int, ctx: RequestContext
    ) -> tuple[FileInfo, EntryAttributes]:
        parent = self._node(parent_inode)
        upload = self._new_upload(parent, name, mode, ctx)
        opened = await self._open_upload(upload, flags & ~os.O_TRUNC, ctx.pid)
        return opened, self._entry(upload, 0)

    @_told
    async def mknod(
        self, parent_inode: int, name: bytes, mode: int, rdev: int, ctx: RequestContext
    ) -> EntryAttributes:
        parent = self._node(parent_inode)
        if not stat.S_ISREG(mode):
            raise _refusal(parent)
        return self._entry(self._new_upload(parent, name, mode, ctx), 0)

    @_told
    async def read(self, fh: int, off: int, size: int) -> bytes:
        opened = self._files.get(fh)
        if not isinstance(opened, OpenReader):
            raise FUSEError(errno.EOPNOTSUPP)
        data = opened.read_at_once(off, size)
        if data is None:
            with self.callers.unless_killed(opened.pid):
                data = await self._workers.read(opened.read, off, size)
        return data  # type: ignore[return-value] # any buffer will do

    @_told
    async def write(self, fh: int, off: int, buf: bytes) -> int:
        opened = self._files.get(number_of(fh))
        if not isinstance(opened, _OpenUpload):
            raise FUSEError(errno.EBADF)
        with self.callers.unless_killed(opened.pid):
            return await opened.upload.write(off, buf)

    @_told
    async def flush(self, fh: int) -> None:
        opened = self._files.get(number_of(fh))
        if isinstance(opened, _OpenUpload):
            with self.callers.unless_killed(opened.pid):
                await opened.upload.flush()

    @_told
    async def fsync(self, fh: int, datasync: bool) -> None:
        opened = self._files.get(number_of(fh))
        if isinstance(opened, _OpenUpload):
            with self.callers.unless_killed(opened.pid):
                await opened.upload.sync()

    @_told
    async def release(self, fh: int) -> None:
        opened = self._files.remove(number_of(fh))
        if isinstance(opened, _OpenUpload):
            await opened.upload.released()
        elif isinstance(opened, Backed):
            opened.closed()
        else:
            opened.close()

    # -- changing names ---------------------------------------------------------------------------

    @_told
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
        old, new = self._directory(parent_inode_old), self._directory(parent_inode_new)
        before, after = os.fsdecode(name_old), os.fsdecode(name_new)
        if flags & pyfuse3.RENAME_EXCHANGE:
            raise FUSEError(errno.EINVAL)
        if isinstance(old, ImportDirectory) and isinstance(new, ImportDirectory):
            if flags & pyfuse3.RENAME_NOREPLACE and new.lookup(after):
                raise FUSEError(errno.EEXIST)
            old.rename(before, after)
        elif isinstance(old, NameDirectory) and isinstance(new, NameDirectory):
            paths = old.path(before), new.path(after)
            with self.callers.unless_killed(ctx.pid):
                await self._workers.write(self._tree.rename, *paths)
        else:
            raise _refusal(old if not isinstance(old, NameDirectory) else new)

    @_told
    async def symlink(
        self, parent_inode: int, name: bytes, target: bytes, ctx: RequestContext
    ) -> EntryAttributes:
        self._require_owner(ctx)
        parent = self._directory(parent_inode)
        if not isinstance(parent, NameDirectory):
            raise _refusal(parent)
        path = parent.path(os.fsdecode(name))
        sources = self._paths_of(parent, os.fsdecode(target))
        with self.callers.unless_killed(ctx.pid):
            await self._workers.write(self._tree.link, sources, path)
        link = _NewLink(f"link:{path}", target)
        return self._entry(link, 0)

    @_told
    async def rmdir(self, parent_inode: int, name: bytes, ctx: RequestContext) -> None:
        self._require_owner(ctx)
        parent = self._directory(parent_inode)
        asked = os.fsdecode(name)
        child = await self._child(parent, asked, ctx.pid)
        if isinstance(parent, NameDirectory):
            with self.callers.unless_killed(ctx.pid):
                await self._workers.write(self._tree.remove, parent.path(asked))
        elif not isinstance(parent, ImageDirectory | RemovableDirectory):
            raise _refusal(parent)
        elif await self._children(child, ctx.pid):
            raise FUSEError(errno.ENOTEMPTY)
        else:
            self._tree.hide(parent.place, f"{parent.path}{asked}")
        self.inodes.retire(child.key)

    @_told
    async def unlink(self, parent_inode: int, name: bytes, ctx: RequestContext) -> None:
        self._require_owner(ctx)
        parent = self._directory(parent_inode)
        asked = os.fsdecode(name)
        if isinstance(parent, ImportDirectory):
            parent.remove(asked)
        elif not isinstance(parent, ImageDirectory | RemovableDirectory):
            raise _refusal(parent)
        elif _is_directory(await self._child(parent, asked, ctx.pid)):
            raise FUSEError(errno.EISDIR)
        else:
            self._tree.hide(parent.place, f"{parent.path}{asked}")

    @_told
    async def mkdir(
        self, parent_inode: int, name: bytes, mode: int, ctx: RequestContext
    ) -> EntryAttributes:
        self._require_owner(ctx)
        parent = self._directory(parent_inode)
        if not isinstance(parent, NameDirectory):
            raise _refusal(parent)
        made = self._tree.make_namespace(parent.path(os.fsdecode(name)))
        return self._entry(made, 0, parent_inode)

    @_told
    async def link(
        self, inode: int, new_parent_inode: int, new_name: bytes, ctx: RequestContext
    ) -> EntryAttributes:
        raise _refusal(self._directory(new_parent_inode))

    # -- within -----------------------------------------------------------------------------------

    @property
    def open_handles(self) -> int:
        """How many files and directories are open."""
        return len(self._files) + len(self._directories)

    def _node(self, inode: int) -> Node:
        try:
            return self.inodes.get(inode)
        except KeyError:
            raise FUSEError(errno.ESTALE) from None

    def _directory(self, inode: int) -> Directory:
        node = self._node(inode)
        if not _is_directory(node):
            raise FUSEError(errno.ENOTDIR)
        return node

    async def _child(self, parent: Directory, name: str, pid: int) -> Node:
        if parent.waits(name):
            with self.callers.unless_killed(pid):
                child = await self._workers.read(parent.lookup, name)
        else:
            child = parent.lookup(name)
        if child is None:
            raise FUSEError(errno.ENOENT)
        return child

    async def _children(self, directory: Node, pid: int) -> Sequence[tuple[str, Node]]:
        if not _is_directory(directory):
            raise FUSEError(errno.ENOTDIR)
        if not directory.waits(None):
            return _listed(directory)
        with self.callers.unless_killed(pid):
            return await self._workers.read(_listed, directory)

    def _entry(self, child: Node, name_timeout: float, parent: int = 0) -> EntryAttributes:
        """What is told of a child that was looked up or made."""
        inode = self.inodes.look_up(child, parent)
        return self._attributes(child, inode, name_timeout)

    def _attributes(self, node: Node, inode: int, entry_timeout: float = 0) -> EntryAttributes:
        known = node.attributes()
        told = EntryAttributes()
        told.st_ino = inode
        told.generation = self.inodes.generation(inode)
        told.entry_timeout = entry_timeout
        told.attr_timeout = known.timeout
        told.st_mode = known.mode
        told.st_nlink = known.links
        told.st_uid = self._owner[0] if known.uid is None else known.uid
        told.st_gid = self._owner[1] if known.gid is None else known.gid
        told.st_rdev = 0
        told.st_size = known.size
        told.st_blksize = known.block_size
        told.st_blocks = -(-known.size // 512)
        told.st_atime_ns = told.st_ctime_ns = told.st_mtime_ns = known.mtime
        return told

    def _new_upload(self, parent: Node, name: bytes, mode: int, ctx: RequestContext) -> Upload:
        self._require_owner(ctx)
        if not isinstance(parent, ImportDirectory):
            raise _refusal(parent)
        return parent.create(os.fsdecode(name), mode & ~ctx.umask, ctx.uid, ctx.gid)

    def _is_owner(self, ctx: RequestContext) -> bool:
        return ctx.uid in (0, self._owner[0])

    def _require_owner(self, ctx: RequestContext) -> None:
        """Refuse everybody but the mount's owner and root. The kernel does not check modes in every
        mount, and those of receipts are whatever a copier has made them.
        """
        if not self._is_owner(ctx):
            raise FUSEError(errno.EACCES)

    async def _open_file(self, file: File, pid: int) -> OpenReader:
        opened = OpenReader(pid)
        if not file.waits:
            opened.open(file.open)
            return opened
        try:
            with self.callers.unless_killed(pid):
                await self._workers.read(opened.open, file.open)
        except BaseException:
            opened.close()
            raise
        return opened

    async def _open_upload(self, upload: Upload, flags: int, pid: int) -> FileInfo:
        if flags & os.O_TRUNC:
            with self.callers.unless_killed(pid):
                await upload.truncate(0)
        number = self._files.add(_OpenUpload(upload, pid))
        return FileInfo(fh=upload.opened(number), direct_io=True, keep_cache=False)

    def _paths_of(self, parent: NameDirectory, target: str) -> Sequence[str]:
        """Where in the tree a symlink's target may lie: as from its directory, else, where a link
        would lead nowhere, by the image's name.
        """
        if target.startswith("/"):
            base = f"{self._mountpoint}/"
            if not target.startswith(base):
                raise OSError(errno.EXDEV, "the target is not in this mount")
            return [posixpath.normpath(self._meant(target[len(base) :]))]
        meant = self._meant(target)
        return [posixpath.normpath(f"{parent.prefix}{meant}"), posixpath.normpath(meant)]

    def _meant(self, path: str) -> str:
        """The path that a path in this mount stands for, part by part."""
        return "/".join(self._tree.names.meanings(part)[0] for part in path.split("/"))


def _listed(directory: Directory) -> list[tuple[str, Node]]:
    return list(directory.children())


def _is_directory(node: Node) -> TypeGuard[Directory]:
    return hasattr(node, "children")


def _list_dots(opened: _OpenDirectory, start: int, token: pyfuse3.ReaddirToken) -> bool:
    """Tell `.` and `..`, for which the kernel counts no lookup; whether there is room for more."""
    told = EntryAttributes()
    told.st_mode = stat.S_IFDIR
    for number in range(start, _DOTS):
        name, told.st_ino = ((b".", opened.inode), (b"..", opened.parent))[number]
        if not pyfuse3.readdir_reply(token, name, told, number + 1):
            return False
    return True


async def _set_attributes(upload: Upload, attr: EntryAttributes, fields: SetattrFields) -> None:
    if fields.update_size:
        await upload.truncate(attr.st_size)
    if fields.update_mode:
        upload.receipt.mode = stat.S_IMODE(attr.st_mode)
    if fields.update_uid:
        upload.receipt.uid = attr.st_uid
    if fields.update_gid:
        upload.receipt.gid = attr.st_gid
    if fields.update_mtime:
        upload.receipt.mtime = attr.st_mtime_ns


def _refusal(node: Node) -> FUSEError:
    """A name cannot be made here, or an image cannot be changed."""
    return FUSEError(
        errno.EPERM if isinstance(node, NameDirectory | ImportDirectory) else errno.EROFS
    )

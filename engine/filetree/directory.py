"""A directory on disk as a tree of files.

Symlinks are never followed: each directory is opened relative to its parent. Sockets are omitted,
as tar and container engines omit them. Reading a file later verifies that it is the one scanned, so
a tree that changes in the meantime causes an error rather than a mixture.
"""

import errno
import os
import stat
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import msgspec

from engine.errors import ChangedFile
from engine.filetree.entry import FILE_TYPES, NO_XATTRS, FileEntry, HostFile
from engine.filetree.tree import Tree

_KINDS = {file_type: kind for kind, file_type in FILE_TYPES.items()}
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_NO_XATTRS_HERE = frozenset({errno.ENOTSUP, errno.EPERM, errno.EACCES, errno.ENODATA})
_SOMETHING_ELSE_NOW = frozenset({errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ENXIO})


def scan(root: Path) -> Tree:
    """Return the tree of `root`, a directory or a symlink to one.

    Raise ChangedFile if an entry vanishes during the scan, and OSError with the path that failed.
    """
    return _Scan().tree(os.fspath(root))


@contextmanager
def reading(entry: FileEntry) -> Iterator[int]:
    """Open a scanned file and yield its descriptor; raise ChangedFile if the file has changed."""
    assert isinstance(entry.content, HostFile)
    path = entry.content.path
    try:
        descriptor = os.open(path, _FILE)
    except OSError as error:
        raise _naming(error, path) from error
    try:
        _check(descriptor, entry, entry.content)
        yield descriptor
        _check(descriptor, entry, entry.content)
    finally:
        os.close(descriptor)


class _Open(msgspec.Struct, frozen=True):
    """A directory that is being scanned; `waiting` are its subdirectories still to be opened."""

    descriptor: int
    path: str
    host: str
    waiting: list[tuple[str, os.stat_result]]


class _Scan:
    def __init__(self) -> None:
        self._entries: dict[str, FileEntry] = {}
        self._numbers: dict[tuple[int, int], int] = {}

    def tree(self, host: str) -> Tree:
        descriptor = os.open(host, _DIRECTORY)
        seen = os.fstat(descriptor)
        self._entries[""] = self._entry(seen, f"/proc/self/fd/{descriptor}/.", host)
        trail = [_Open(descriptor, "", host, [])]
        try:
            self._list(trail[0])
            while trail:
                here = trail[-1]
                if here.waiting:
                    trail.append(_below(here, *here.waiting.pop()))
                    self._list(trail[-1])
                else:
                    os.close(trail.pop().descriptor)
        finally:
            for left in trail:
                os.close(left.descriptor)
        return Tree(self._entries)

    def _list(self, here: _Open) -> None:
        prefix = f"{here.path}/" if here.path else ""
        host = here.host
        try:
            for name in os.listdir(here.descriptor):
                host = f"{here.host}/{name}"
                seen = os.lstat(name, dir_fd=here.descriptor)
                if stat.S_ISSOCK(seen.st_mode):
                    continue
                place = f"/proc/self/fd/{here.descriptor}/{name}"
                self._entries[f"{prefix}{name}"] = self._entry(seen, place, host)
                if stat.S_ISDIR(seen.st_mode):
                    here.waiting.append((name, seen))
        except OSError as error:
            raise _naming(error, host) from error

    def _entry(self, seen: os.stat_result, place: str, host: str) -> FileEntry:
        """Return the entry at `place`, a path that the renaming of a directory cannot redirect."""
        kind = _KINDS[stat.S_IFMT(seen.st_mode)]
        is_device = kind.endswith("device")
        identity = seen.st_dev, seen.st_ino
        return FileEntry(
            kind=kind,
            mode=stat.S_IMODE(seen.st_mode),
            uid=seen.st_uid,
            gid=seen.st_gid,
            mtime_ns=seen.st_mtime_ns,
            size=seen.st_size if kind == "file" else 0,
            linkname=os.readlink(place) if kind == "symlink" else "",
            device=(os.major(seen.st_rdev), os.minor(seen.st_rdev)) if is_device else (0, 0),
            xattrs=_xattrs(place),
            inode=self._numbers.setdefault(identity, len(self._numbers) + 1),
            content=HostFile(host, *identity, seen.st_ctime_ns) if kind == "file" else None,
        )


def _below(here: _Open, name: str, seen: os.stat_result) -> _Open:
    host = f"{here.host}/{name}"
    try:
        descriptor = os.open(name, _DIRECTORY | os.O_NOFOLLOW, dir_fd=here.descriptor)
    except OSError as error:
        raise _naming(error, host) from error
    found = os.fstat(descriptor)
    if (found.st_dev, found.st_ino) != (seen.st_dev, seen.st_ino):
        os.close(descriptor)
        raise ChangedFile(host)
    return _Open(descriptor, f"{here.path}/{name}".lstrip("/"), host, [])


def _check(descriptor: int, entry: FileEntry, content: HostFile) -> None:
    now = os.fstat(descriptor)
    found = now.st_dev, now.st_ino, now.st_ctime_ns, now.st_size
    if found != (content.device, content.inode, content.changed, entry.size):
        raise ChangedFile(content.path)


def _xattrs(place: str) -> Mapping[str, bytes]:
    try:
        names = os.listxattr(place, follow_symlinks=False)
    except OSError as error:
        if error.errno in _NO_XATTRS_HERE:
            return NO_XATTRS
        raise
    found = {}
    for name in sorted(names):
        try:
            found[name] = os.getxattr(place, name, follow_symlinks=False)
        except OSError as error:
            if error.errno not in _NO_XATTRS_HERE:
                raise
    return found or NO_XATTRS


def _naming(error: OSError, host: str) -> Exception:
    """Return the error with the full path, or ChangedFile if the entry has been replaced."""
    if error.errno in _SOMETHING_ELSE_NOW:
        return ChangedFile(host)
    return OSError(error.errno, error.strerror, host)

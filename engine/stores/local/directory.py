"""The directory of a store, which belongs to its user alone.

`open_directory` or `create_directory` is called before any other access to a store.

A directory is recognised as a store by its content and never by its path; any other directory is
left unchanged by both functions. A store is created in a new or an empty directory. `version` is
written first, so a directory that holds only `version` and other files of a store was begun by an
interrupted command.

A user that can write to a directory decides where the paths in it lead. So the directory of the
store belongs to the user and is closed to all others (0700), its direct entries belong to the user
too, and no other user can redirect the path to it: it has no symlink of another user, and no parent
directory in which everybody may rename entries.
"""

import errno
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from engine.errors import StoreError, StoreMissing, printable

VERSION = 1
MODE = 0o700
_LONGEST_VERSION = 100
_OTHERS = 0o077
_WRITABLE = 0o022
_PARTS = frozenset({"version", "imgfs.db", "blobs", "ingest", "leases"})
_ENOUGH_PARTS = 3
"""A directory with this many parts of a store is a store, even if its database and something else
are lost. No other kind of directory has so many: an OCI layout has one, containerd's content store
two.
"""
_BEGINNINGS = frozenset({"version", ".version", "imgfs.db"})
_NAMES = (
    _PARTS
    | _BEGINNINGS
    | {
        "imgfs.db-wal",
        "imgfs.db-shm",
        "imgfs.db-journal",
        "names.lock",
        "reserve",
        "layers",
        "quarantine",
    }
    | {"repair.lock", "rebuild", ".rebuild", ".imgfs.db", ".imgfs.db-wal", ".imgfs.db-shm"}
)
_OF_THE_DISK = frozenset({"lost+found"})
"""The entries of the top directory of an empty file system."""

_SHARED = ("/tmp", "/var/tmp", "/dev/shm")


def open_directory(path: Path) -> None:
    """Close the directory of a store to other users.

    Raise StoreMissing if there is no store yet, StoreError if the directory is something else or
    not safe, OSError.
    """
    try:
        with _opened(path) as directory:
            if not _is_made(path, directory):
                raise StoreMissing(str(path))
            _check_way(path)
            _close_to_others(path, directory)
    except FileNotFoundError:
        raise StoreMissing(str(path)) from None


def create_directory(path: Path) -> None:
    """Create the directory of a store, or close an existing one to other users.

    Raise StoreError if it is something else or not safe, OSError.
    """
    _check_way(path)
    path.mkdir(mode=MODE, parents=True, exist_ok=True)
    _check_way(path)
    with _opened(path) as directory:
        if not _is_made(path, directory):
            _check_can_begin(path, directory)
        _close_to_others(path, directory)


def has_version(path: Path) -> bool:
    """Return whether the store in this directory states its version, as a complete store does.

    Raise StoreError for a version other than `VERSION`.
    """
    try:
        descriptor = os.open(path / "version", os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    with open(descriptor, "rb") as file:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise StoreError(str(path / "version"), "is not a file, as the version of a store is")
        found = file.read(_LONGEST_VERSION).strip(b"\0")  # a loss of power may leave NULs
    if found and found.strip() != str(VERSION).encode():
        version = found[:20].strip().decode("ascii", "backslashreplace")
        raise StoreError(str(path), f"expected store version {VERSION}, found {version!r}")
    return bool(found)


@contextmanager
def _opened(path: Path) -> Iterator[int]:
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _is_made(path: Path, directory: int) -> bool:
    """Return whether it is a store, rather than empty or begun; raise StoreError for others."""
    names = set(os.listdir(directory)) - _OF_THE_DISK
    is_begun = bool(names & _BEGINNINGS) and names <= _NAMES
    is_made = len(names & _PARTS) >= _ENOUGH_PARTS or (is_begun and "blobs" in names)
    if names and not is_made and not is_begun:
        other = min(names - _NAMES, default=min(names))
        reason = (
            f"is not an imgfs store (it has {printable(other, 60)!r});"
            " name a store, or a directory that is new or empty"
        )
        raise StoreError(str(path), reason)
    has_version(path)
    return is_made


def _check_can_begin(path: Path, directory: int) -> None:
    """Raise an error, and change nothing, if no store can be created in the directory."""
    if _is_shared(path, os.fstat(directory)):
        raise StoreError(str(path), "is a directory that users share; use one of your own")
    if not os.access(path, os.W_OK | os.X_OK):
        refused = errno.EROFS if os.fstatvfs(directory).f_flag & os.ST_RDONLY else errno.EACCES
        raise OSError(refused, os.strerror(refused), str(path))


def _is_shared(path: Path, status: os.stat_result) -> bool:
    """Return whether a directory is shared by all users, as /tmp is, even if it is empty."""
    if not status.st_mode & stat.S_ISVTX:
        return False
    known = [os.stat(name) for name in _SHARED if os.path.exists(name)]
    # The top of a new tmpfs has this mode too, whatever it is mounted for.
    return not os.path.ismount(path) or any(os.path.samestat(status, one) for one in known)


def _close_to_others(path: Path, directory: int) -> None:
    status = os.fstat(directory)
    if status.st_uid != os.geteuid():
        raise StoreError(str(path), f"belongs to user {status.st_uid}; use a store of your own")
    for name in _NAMES:
        with suppress(FileNotFoundError):
            owner = os.stat(name, dir_fd=directory, follow_symlinks=False).st_uid
            if owner != os.geteuid():
                reason = f"belongs to user {owner}, in a store of yours; use another store"
                raise StoreError(str(path / name), reason)
    if status.st_mode & _OTHERS:
        with suppress(PermissionError):  # some file systems have one mode for all files
            os.fchmod(directory, stat.S_IMODE(status.st_mode) & ~_OTHERS)
    if os.fstat(directory).st_mode & _WRITABLE:
        raise StoreError(str(path), "others can write to it, and its mode cannot be changed")


def _check_way(path: Path) -> None:
    """Raise StoreError if another user could redirect the path.

    That is so if a symlink on it belongs neither to the user nor to root, or if everybody may
    rename entries in a directory on it. Components that do not exist are not checked.
    """
    left = 40  # the number of symlinks that the kernel follows
    below = Path("/")
    parts = list(reversed(path.absolute().parts[1:]))
    while parts:
        part = parts.pop()
        if part == "..":
            below = below.parent
            continue
        _check_parent(below, path)
        try:
            status = os.lstat(below / part)
        except FileNotFoundError:
            return
        if not stat.S_ISLNK(status.st_mode):
            below /= part
            continue
        if status.st_uid not in (0, os.geteuid()):
            raise StoreError(str(path), f"{below / part} is a symlink of user {status.st_uid}")
        left -= 1
        if not left:
            raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), str(path))
        target = Path(os.readlink(below / part))
        if target.is_absolute():
            below = Path("/")
        parts += [p for p in reversed(target.parts) if p != "/"]


def _check_parent(directory: Path, path: Path) -> None:
    mode = os.stat(directory).st_mode
    if mode & stat.S_IWOTH and not mode & stat.S_ISVTX:
        raise StoreError(str(path), f"everybody can replace it: {directory} is writable by all")

"""The directory of a store: ours alone. `open_directory` is called before anything else is done in
a store.

Whoever can write to a directory decides where the paths in it lead. So the store's directory
belongs to us and is closed to everybody else (0700), what stands directly in it is ours too, and no
path leads to it that any user could turn aside: no symlink of somebody else's, no directory above
it in which everybody may rename.
"""

import errno
import os
import stat
from contextlib import suppress
from pathlib import Path

from engine.errors import StoreError

MODE = 0o700
_OTHERS = 0o077
_WRITABLE = 0o022


def open_directory(path: Path) -> None:
    """Make the directory, or close it to others; StoreError where that is not safe, OSError."""
    path.mkdir(mode=MODE, parents=True, exist_ok=True)
    _check_way(path)
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        status = os.fstat(descriptor)
        if status.st_uid != os.geteuid():
            raise StoreError(str(path), f"belongs to user {status.st_uid}; use a store of your own")
        if status.st_mode & _OTHERS:
            with suppress(PermissionError):  # a file system may have one mode for everything
                os.fchmod(descriptor, stat.S_IMODE(status.st_mode) & ~_OTHERS)
        if os.fstat(descriptor).st_mode & _WRITABLE:
            raise StoreError(str(path), "others can write to it, and its mode cannot be changed")
        for name in os.listdir(descriptor):
            with suppress(FileNotFoundError):
                owner = os.stat(name, dir_fd=descriptor, follow_symlinks=False).st_uid
                if owner != os.geteuid():
                    raise StoreError(str(path / name), f"belongs to user {owner}; remove it")
    finally:
        os.close(descriptor)


def _check_way(path: Path) -> None:
    """StoreError if a symlink on the way is neither ours nor root's, or a directory lets everybody
    rename what is in it.
    """
    left = 40  # as many symlinks as the kernel follows
    below = Path("/")
    parts = list(reversed(path.absolute().parts[1:]))
    while parts:
        part = parts.pop()
        if part == "..":
            below = below.parent
            continue
        _check_parent(below, path)
        status = os.lstat(below / part)
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

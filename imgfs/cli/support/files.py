"""Files and directories named by the user, in directories where others may be able to write."""

import errno
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from imgfs.cli.support.common import Failed

_MAX_LINKS = 40


def followed(path: Path) -> Path:
    """Follow symlinks at the end of a path, without a request to a file system mounted there.

    Raise Failed for a symlink that belongs to another user than root and the caller, and OSError
    (ELOOP) for too many symlinks.
    """
    for _ in range(_MAX_LINKS):
        try:
            target = os.readlink(path)
        except OSError:
            return path
        owner = path.lstat().st_uid
        if owner not in (0, os.geteuid()):
            raise Failed(f"{path}: is a symlink of user {owner}")
        path = path.parent / target
    raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), str(path))


@contextmanager
def whole_file(path: Path) -> Iterator[BinaryIO]:
    """Provide a file that appears once it is complete; a pipe or device is written directly."""
    if _is_special(path):
        with open(_open_device(path), "wb") as device:
            yield device
        return
    target = followed(path)
    temporary = f".{target.name[:40]}.{os.urandom(8).hex()}"
    try:
        directory = os.open(target.parent, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            with open(_create(temporary, directory), "wb") as file:
                yield file
                if target.exists():  # a power failure must not lose the file that it replaces
                    file.flush()
                    os.fsync(file.fileno())
            os.rename(temporary, target.name, src_dir_fd=directory, dst_dir_fd=directory)
        except BaseException:
            with suppress(FileNotFoundError):
                os.unlink(temporary, dir_fd=directory)
            raise
        finally:
            os.close(directory)
    except OSError as error:
        if error.filename in (temporary, str(target.parent), target.parent):
            error.filename = str(path)
        raise


def may_be_written_anywhere(file: BinaryIO) -> bool:
    """Return whether a file is one that can be written in any order at no cost.

    File systems in user space may not know that, or store what comes out of order twice.
    """
    from imgfs.mounts import mounts  # deferred: few commands write large files

    found = os.fstat(file.fileno())
    device = f"{os.major(found.st_dev)}:{os.minor(found.st_dev)}"
    in_user_space = {mount.device for mount in mounts() if mount.type.startswith("fuse")}
    return stat.S_ISREG(found.st_mode) and device not in in_user_space


def _is_special(path: Path) -> bool:
    """Return whether a path leads to something else than a file that is there or can be made."""
    with suppress(PermissionError):  # Linux follows no symlink of others in directories like /tmp
        return path.exists() and not path.is_file()
    return False


def _create(name: str, directory: int) -> int:
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    return os.open(name, flags, 0o666, dir_fd=directory)


def _open_device(path: Path) -> int:
    descriptor = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    if stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise Failed(f"{path}: has become another file")
    return descriptor

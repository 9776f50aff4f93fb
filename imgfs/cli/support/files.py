"""Files and directories that a user names, where somebody else may be able to put things too."""

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
    """Where a path leads whose last part may be a symlink, without asking what is mounted there.

    Failed for a symlink of another user, unless he is root.
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
    """A file that is there when all of it is written; a pipe or device is written as it is."""
    if path.exists() and not path.is_file():
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
                if target.exists():  # whoever had an archive has one if the power fails
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


def _create(name: str, directory: int) -> int:
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    return os.open(name, flags, 0o666, dir_fd=directory)


def _open_device(path: Path) -> int:
    descriptor = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    if stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise Failed(f"{path}: has become another file")
    return descriptor

"""Files and directories named by the user, in directories where others may be able to write."""

import errno
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from engine.errors import is_of_space
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
def naming_if_full(path: str) -> Iterator[None]:
    """Let an error about a full disk name what is on it, unless it has a name."""
    try:
        yield
    except OSError as error:
        if error.filename is None and is_of_space(error):
            error.filename = path
        raise


@contextmanager
def whole_file(path: Path) -> Iterator[BinaryIO]:
    """Provide a file that appears once it is complete; a pipe or device is written directly.

    It has the mode of a file that it replaces, and its owner and group as far as they can be given.
    """
    if _is_special(path):
        with naming_if_full(str(path)), open(_open_device(path), "wb") as device:
            yield device
        return
    target = followed(path)
    temporary = f".{target.name[:40]}.{os.urandom(8).hex()}"
    try:
        directory = os.open(target.parent, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            old = _found(target.name, directory)
            made = _create(temporary, directory, old)
            with naming_if_full(str(path)), open(made, "wb") as file:
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


def _found(name: str, directory: int) -> os.stat_result | None:
    with suppress(FileNotFoundError):
        return os.stat(name, dir_fd=directory, follow_symlinks=False)
    return None


def _create(name: str, directory: int, old: os.stat_result | None) -> int:
    """Create a file in the place of an old one, which others can read only as they could that."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    descriptor = os.open(name, flags, 0o666 if old is None else 0o600, dir_fd=directory)
    if old is not None:
        is_planted = old.st_uid != os.geteuid() and os.fstat(directory).st_mode & stat.S_IWOTH
        if is_planted:  # whoever made it may want to change what comes into its place
            _set_mode(descriptor, old, 0o755)
        else:
            _set_owner(descriptor, old)
            _set_mode(descriptor, old, 0o777)
    return descriptor


def _set_owner(descriptor: int, old: os.stat_result) -> None:
    """Set the owner and the group of an old file, or only the group, as far as that is allowed."""
    for owner in (old.st_uid, -1):
        with suppress(OSError):
            os.fchown(descriptor, owner, old.st_gid)
            return


def _set_mode(descriptor: int, old: os.stat_result, most: int) -> None:
    """Set the mode of an old file; another group may do no more than everybody."""
    mode = old.st_mode & most
    if os.fstat(descriptor).st_gid != old.st_gid:
        mode &= 0o707 | (mode & 0o007) << 3
    with suppress(OSError):  # not every file system has modes
        os.fchmod(descriptor, mode)


def _open_device(path: Path) -> int:
    descriptor = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    if stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise Failed(f"{path}: has become another file")
    return descriptor

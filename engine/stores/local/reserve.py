"""The reserve of a store: a file that occupies space until the disk has none left.

SQLite needs space to open a database, and to delete rows. So that images can be removed from a disk
without a free byte, the file is given up then, and made again as soon as there is room. Whoever
finds the disk full may use what was given up to open the store and to remove something, but not to
add to it (`Database.check_room`). A process that is killed meanwhile leaves the disk with that
much free space, or without a reserve until the next one makes it.

The file is given up under a shared lock, a flock on it that is held as long as the space is needed;
it is made again under an exclusive one, or by a transaction for itself. It is whole only if as much
was free besides: a smaller one, which is made of what is left, makes each transaction look
whether there is more, since quotas are not seen by statvfs.
"""

import errno
import fcntl
import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, nullcontext, suppress
from pathlib import Path
from typing import Final

from engine.errors import is_of_space

SIZE: Final = 1 << 20
"""Bytes for one transaction, also in a large database, and for what SQLite needs to open it."""
_STEP: Final = 64 << 10
"""The most bytes of a full disk that are left free."""
_BLOCK: Final = 512
"""The unit of st_blocks."""


class Reserve:
    """The reserve at `path`, in an existing directory. Safe from any thread and process."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def is_besides(self) -> bool:
        """Return whether as much as the reserve is free, or its disk does not tell."""
        try:
            disk = os.statvfs(self._path.parent)
        except OSError:
            return True
        return not disk.f_blocks or disk.f_bavail * disk.f_frsize >= SIZE

    @contextmanager
    def given_up(self) -> Iterator[None]:
        """Enter work for which the space of the reserve is left free until its end."""
        try:
            with ExitStack() as held:
                try:
                    os.ftruncate(held.enter_context(self._locked(fcntl.LOCK_SH)), 0)
                except OSError:  # btrfs removes a file even if a quota lets it change none
                    held.close()
                    with suppress(OSError):
                        self._path.unlink()
                yield
        finally:
            self.refill()

    @contextmanager
    def transaction(self) -> Iterator[OSError | None]:
        """Enter a transaction of the database, whose lock the caller has. If not as much as the
        reserve is free besides, give it up, and yield the error that says so.
        """
        if self._is_whole() and self.is_besides():
            try:
                yield None
            except OSError as error:
                if is_of_space(error):  # of a quota, perhaps: the next transaction shall look
                    with self.given_up():
                        pass
                raise
            return
        shortage = None
        with suppress(OSError), self._locked(fcntl.LOCK_SH) as descriptor:
            shortage = _make(descriptor)
        with self.given_up() if shortage else nullcontext():
            yield shortage

    def refill(self) -> None:
        """Make the reserve, as large as the disk allows, unless a process needs it given up."""
        if not self._is_whole():
            with suppress(OSError), self._locked(fcntl.LOCK_EX | fcntl.LOCK_NB) as descriptor:
                if _make(descriptor):
                    _make_part(descriptor)

    @contextmanager
    def _locked(self, lock: int) -> Iterator[int]:
        flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
        descriptor = os.open(self._path, flags, 0o600)
        try:
            fcntl.flock(descriptor, lock)
            yield descriptor
        finally:
            os.close(descriptor)

    def _is_whole(self) -> bool:
        """Return whether the file has its blocks, which that of a copied store may lack."""
        try:
            found = os.lstat(self._path)
        except OSError:
            return False
        return found.st_size == SIZE <= found.st_blocks * _BLOCK


def _make(descriptor: int) -> OSError | None:
    """Make the reserve, for which twice its size must be there; return the error that says that it
    is not. A file system that cannot reserve space has no reserve, and no such error.

    What another process needs is not taken for the moment that an allocation takes to fail.
    """
    disk, own = os.fstatvfs(descriptor), os.fstat(descriptor).st_blocks * _BLOCK
    if disk.f_blocks and disk.f_bfree * disk.f_frsize + own < 2 * SIZE:
        return OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    try:
        os.posix_fallocate(descriptor, 0, 2 * SIZE)
        os.ftruncate(descriptor, SIZE)
    except OSError as error:
        return error if is_of_space(error) else None
    return None


def _make_part(descriptor: int) -> None:
    """Make a smaller reserve, of what is left."""
    size = 0
    with suppress(OSError):
        while size < SIZE - _STEP:
            os.posix_fallocate(descriptor, size, _STEP)
            size += _STEP
    os.ftruncate(descriptor, size)

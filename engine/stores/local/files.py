"""Files and directories of a store on disk: reading them, and making them durable."""

import os
import stat
from contextlib import suppress
from pathlib import Path

from engine.closing import Closing


class LocalReader(Closing):
    """A `ReaderAt` of a file; `is_regular` is false for a FIFO, a directory or a device."""

    __slots__ = ("_descriptor", "is_regular", "size")

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        status = os.fstat(descriptor)
        self.size = status.st_size
        self.is_regular = stat.S_ISREG(status.st_mode)

    def pread(self, length: int, offset: int) -> bytes:
        return os.pread(self._descriptor, length, offset)

    def fileno(self) -> int:
        return self._descriptor

    def close(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1


def open_file(path: Path) -> LocalReader:
    """Open a file to read it; a FIFO in its place is opened without waiting for a writer."""
    return LocalReader(os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK))


def make_directory(path: Path) -> None:
    with suppress(FileExistsError):
        path.mkdir(mode=0o700)
        sync_directory(path.parent)


def sync_directory(path: Path) -> None:
    sync(path, os.O_RDONLY | os.O_DIRECTORY)


def sync(path: Path, flags: int) -> None:
    descriptor = os.open(path, flags | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)

"""Open files, one object for each FUSE file handle. Call them from the event loop only."""

import errno
import os

from imgfs.fuse.handles import OpenReader
from imgfs.fuse.killed_callers import KilledCallers
from imgfs.threads import DiskThreads
from imgfs.vfs.nodes import WritableFile


class OpenFile:
    """A base for open files, which supports neither reading nor writing."""

    async def read(self, _offset: int, _size: int) -> bytes | memoryview:
        """Return up to `size` bytes; a view is valid until the next read of any file."""
        raise OSError(errno.EOPNOTSUPP, os.strerror(errno.EOPNOTSUPP))

    async def write(self, _offset: int, _data: bytes) -> int:
        """Write bytes, and return their number."""
        raise OSError(errno.EBADF, os.strerror(errno.EBADF))

    async def flush(self) -> None:
        """Handle the close of one descriptor."""

    async def sync(self) -> None:
        """Handle fsync."""

    async def release(self) -> None:
        """Handle the close of the last descriptor."""

    def read_at_once(self, _offset: int, _size: int) -> bytes | memoryview | None:
        """Return what `read` does, or None if that has to wait."""
        return None

    def release_at_once(self) -> bool:
        """Do what `release` does, and return True, unless that has to wait."""
        return False


class OpenForReading(OpenFile):
    """A file that the process `pid` has opened for reading."""

    def __init__(
        self, reader: OpenReader, pid: int, workers: DiskThreads, callers: KilledCallers
    ) -> None:
        self._reader = reader
        self._pid = pid
        self._workers = workers
        self._callers = callers

    async def read(self, offset: int, size: int) -> bytes | memoryview:
        data = self.read_at_once(offset, size)
        if data is None:
            with self._callers.unless_killed(self._pid):
                data = await self._workers.read(self._reader.read, offset, size)
        return data

    def read_at_once(self, offset: int, size: int) -> bytes | memoryview | None:
        return self._reader.read_at_once(offset, size)

    async def release(self) -> None:
        self.release_at_once()

    def release_at_once(self) -> bool:
        self._reader.close()
        return True


class _OpenUpload(OpenFile):
    """A file that may change, which the process `pid` has open."""

    def __init__(self, file: WritableFile, pid: int, callers: KilledCallers) -> None:
        self._file = file
        self._pid = pid
        self._callers = callers

    async def read(self, offset: int, size: int) -> bytes:
        with self._callers.unless_killed(self._pid):
            return await self._file.read(offset, size)


class OpenForLiveReading(_OpenUpload):
    """A file that may change, which a process has opened for reading."""

    def __init__(self, file: WritableFile, pid: int, callers: KilledCallers) -> None:
        super().__init__(file, pid, callers)
        file.opened_for_reading()

    async def release(self) -> None:
        self._file.released_by_reader()


class OpenForWriting(_OpenUpload):
    """A file that the process `pid` has opened for writing."""

    async def write(self, offset: int, data: bytes) -> int:
        with self._callers.unless_killed(self._pid):
            return await self._file.write(offset, data)

    async def flush(self) -> None:
        with self._callers.unless_killed(self._pid):
            await self._file.flush()

    async def sync(self) -> None:
        with self._callers.unless_killed(self._pid):
            await self._file.sync()

    async def release(self) -> None:
        await self._file.released()

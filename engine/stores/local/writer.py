"""A writer of an ingest on disk."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

from engine.content.protocols import Bytes, Status
from engine.content.writer import Publish, Record, Writer
from engine.errors import Unavailable
from engine.stores.local import ingest_files

BLOB_MODE: Final = 0o444
_EARLY: Final = 16 << 20
"""Bytes after which the kernel is made to begin writing them to disk."""


class LocalWriter(Writer):
    """A `Writer` that holds the ingest in `directory` by the lock of its data."""

    def __init__(
        self,
        directory: Path,
        descriptor: int,
        record: Record,
        algorithm: str,
        publish: Publish,
        unnamed: set[Path],
    ) -> None:
        """`unnamed` holds the directory of an ingest without a ref until the ingest has ended."""
        super().__init__(record, algorithm, publish)
        self._directory = directory
        self._locked = descriptor
        self._unnamed = unnamed
        self._pid = os.getpid()
        self._begun = 0
        self._synced = False
        self._take_up(os.fstat(descriptor).st_size)
        os.lseek(descriptor, self.offset, os.SEEK_SET)

    def write(self, data: Bytes) -> int:
        self._synced = False
        length = super().write(data)
        size = self.offset - self._begun
        if size >= _EARLY:  # so that `sync` has little left to do
            os.posix_fadvise(self._descriptor, self._begun, size, os.POSIX_FADV_DONTNEED)
            self._begun = self.offset
        return length

    def pread(self, length: int, offset: int) -> bytes:
        return os.pread(self._descriptor, length, offset)

    def status(self) -> Status:
        data = os.fstat(self._descriptor)
        return self.record.status(data.st_size, data.st_mtime)

    def sync(self) -> None:
        """Make the bytes durable and the file read-only."""
        if not self._synced:
            os.fchmod(self._descriptor, BLOB_MODE)
            os.fsync(self._descriptor)
            self._synced = True

    def move(self, path: Path) -> None:
        """End the ingest by moving its synced data to `path`, replacing an existing file."""
        self.sync()
        ingest_files.move(self._directory, path)
        self._unnamed.discard(self._directory)
        self.close()

    def _append(self, data: memoryview) -> int:
        return os.write(self._descriptor, data)

    def _overwrite(self, data: memoryview, offset: int) -> int:
        self._synced = False
        written = os.pwrite(self._descriptor, data, offset)
        os.lseek(self._descriptor, 0, os.SEEK_END)
        return written

    def _cut(self, size: int) -> None:
        self._synced = False
        os.ftruncate(self._descriptor, size)
        os.lseek(self._descriptor, size, os.SEEK_SET)

    def _discard(self) -> None:
        """Remove the ingest; leave files that cannot be removed to garbage collection.

        The child of a fork leaves the ingest to its parent.
        """
        if self._pid == os.getpid():
            ingest_files.try_to_remove(self._directory)
            self._unnamed.discard(self._directory)

    def _release(self) -> None:
        os.close(self._locked)

    @property
    def _descriptor(self) -> int:
        self._check_open()
        if self._pid != os.getpid():
            raise Unavailable("ingest", self.record.ref)
        return self._locked

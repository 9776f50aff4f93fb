"""A writer of an ingest whose bytes are in an open file."""

from __future__ import annotations

import os
from typing import Final

from engine.content.protocols import Bytes, Status
from engine.content.writer import Publish, Record, Writer
from engine.errors import Unavailable
from engine.spec.digest import Digest

_EARLY: Final = 16 << 20
"""Bytes after which the kernel is made to begin writing them to disk."""


class DescriptorWriter(Writer):
    """A `Writer` that appends to a file after what is in it, and closes it at the end.

    The child of a fork can only close it.
    """

    def __init__(self, descriptor: int, record: Record, algorithm: str, publish: Publish) -> None:
        super().__init__(record, algorithm, publish)
        self._locked = descriptor
        self._pid = os.getpid()
        self._begun = 0
        self.synced = False
        self._take_up(os.fstat(descriptor).st_size)
        os.lseek(descriptor, self.offset, os.SEEK_SET)

    def write(self, data: Bytes) -> int:
        self.synced = False
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

    def digest(self) -> Digest:
        self._check_process()
        return super().digest()

    def sync(self) -> None:
        """Make the bytes durable."""
        if not self.synced:
            os.fsync(self._descriptor)
            self.synced = True

    def _append(self, data: memoryview) -> int:
        return os.write(self._descriptor, data)

    def _overwrite(self, data: memoryview, offset: int) -> int:
        self.synced = False
        written = os.pwrite(self._descriptor, data, offset)
        os.lseek(self._descriptor, 0, os.SEEK_END)
        return written

    def _cut(self, size: int) -> None:
        self.synced = False
        os.ftruncate(self._descriptor, size)
        os.lseek(self._descriptor, size, os.SEEK_SET)

    def _release(self) -> None:
        os.close(self._locked)

    @property
    def _is_own(self) -> bool:
        """Whether this is the process that has begun to write."""
        return self._pid == os.getpid()

    @property
    def _descriptor(self) -> int:
        self._check_open()
        self._check_process()
        return self._locked

    def _check_process(self) -> None:
        if not self._is_own:
            raise Unavailable("ingest", self.record.ref)

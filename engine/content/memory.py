"""Blobs in memory."""

import msgspec

from engine.closing import Closing


class MemoryReader(Closing, msgspec.Struct, frozen=True):
    """A `ReaderAt` of bytes in memory."""

    data: bytes

    @property
    def size(self) -> int:
        return len(self.data)

    def pread(self, length: int, offset: int) -> bytes:
        return self.data[offset : offset + length]

    def fileno(self) -> None:
        """Return None: there is no file."""

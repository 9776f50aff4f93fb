"""Layers as they are read: any file at any offset, each byte verified."""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING, Protocol, Self

from engine.content.protocols import ReaderAt

if TYPE_CHECKING:
    from engine.layers.table import Entry, LayerTable


class Plain(Protocol):
    """The uncompressed bytes of one layer, verified by the checksums of its table."""

    def read(self, length: int, offset: int) -> bytes:
        """Return exactly `length` bytes from `offset`.

        Raise BrokenArchive, which names the layer, if its bytes have changed.
        """


class Layer:
    """One open layer; safe from any thread."""

    def __init__(self, digest: str, table: LayerTable, source: ReaderAt, plain: Plain) -> None:
        """`source` is the stored blob, which is closed with the layer."""
        self.digest = digest
        self.table = table
        self._source = source
        self._plain = plain

    def pread(self, entry: Entry, length: int, offset: int) -> bytes:
        """Return up to `length` bytes of the content of a file, as `os.pread` does.

        Raise BrokenArchive, which names the layer, if its bytes have changed.
        """
        length = self._within(length, offset, entry.size)
        if not entry.segments:
            return self._plain.read(length, entry.start + offset)
        parts = []
        position, end, stored = offset, offset + length, entry.start
        for segment in entry.segments:
            first = max(position, segment.offset)
            last = min(end, segment.offset + segment.length)
            if first < last:
                parts.append(bytes(first - position))
                parts.append(self._plain.read(last - first, stored + first - segment.offset))
                position = last
            stored += segment.length
        parts.append(bytes(end - position))
        return b"".join(parts)

    def read(self, length: int, offset: int) -> bytes:
        """Return up to `length` bytes of the uncompressed layer, as `os.pread` does.

        Raise as `pread` does.
        """
        return self._plain.read(self._within(length, offset, self.table.size), offset)

    def close(self) -> None:
        self._source.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _within(self, length: int, offset: int, size: int) -> int:
        if offset < 0 or length < 0:
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
        return max(0, min(length, size - offset))

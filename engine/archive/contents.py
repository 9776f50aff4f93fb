"""What a member of an archive has become: kept in memory, in an ingest, or known to the store."""

from typing import Self

import msgspec

from engine.content.diff_ids import Uncompressed
from engine.content.local import LocalWriter
from engine.digest import Digest


class Buffered(msgspec.Struct, frozen=True):
    """A member kept in memory."""

    name: str
    digest: Digest
    data: bytes

    @property
    def size(self) -> int:
        return len(self.data)

    def pread(self, size: int, offset: int) -> bytes:
        return self.data[offset : offset + size]


class Ingested(msgspec.Struct, frozen=True):
    """A member that lies in an ingest."""

    name: str
    digest: Digest
    size: int
    writer: LocalWriter
    uncompressed: Uncompressed | None

    def pread(self, size: int, offset: int) -> bytes:
        return self.writer.pread(size, offset)


class Stored(msgspec.Struct, frozen=True):
    """A member that was in the content store before."""

    name: str
    digest: Digest
    size: int
    diff_id: Digest | None


class Damaged(msgspec.Struct, frozen=True):
    """A member whose name promises what the store has, and whose bytes are something else."""

    name: str
    digest: Digest
    size: int
    expected: Digest


Content = Buffered | Ingested | Stored


def drop(content: Content) -> None:
    """Leave nothing of it behind."""
    if isinstance(content, Ingested):
        content.writer.abort()


class ContentReader:
    """A member as a reader of a content store."""

    def __init__(self, content: Buffered | Ingested) -> None:
        self._content = content
        self.size = content.size

    def pread(self, size: int, offset: int) -> bytes:
        return self._content.pread(size, offset)

    def fileno(self) -> int:
        raise OSError("a member of an archive has no file of its own")

    def close(self) -> None:
        """Nothing is held."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

"""Writing over a blob that the store holds, in a directory of `import/`."""

from typing import ClassVar

from engine.content.protocols import ReaderAt
from engine.errors import DigestMismatch
from engine.spec.digest import Digest


class StoredBlobWriter:
    """Takes the bytes that a copier writes over a stored blob: the same ones, and no others."""

    ingest: ClassVar[None] = None

    def __init__(self, path: str, digest: Digest, reader: ReaderAt) -> None:
        self._path = path
        self._digest = digest
        self._reader = reader

    def write(self, data: bytes | memoryview, offset: int) -> None:
        """Compare bytes with those of the blob; raise DigestMismatch if they differ."""
        if self._reader.pread(len(data), offset) != data:
            raise DigestMismatch(self._path, self._digest, "other bytes")

    def read(self, length: int, offset: int) -> bytes:
        """Return bytes of the blob."""
        return self._reader.pread(length, offset)

    def truncate(self, _size: int) -> None:
        """Do nothing: a copier empties a file before it writes it."""

    def close(self) -> None:
        self._reader.close()

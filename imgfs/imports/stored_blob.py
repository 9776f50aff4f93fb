"""A blob that the store holds, in a directory of `import/` where nobody has written it."""

from typing import TYPE_CHECKING, ClassVar

from engine.content.protocols import ReaderAt
from engine.errors import DigestMismatch
from engine.spec.digest import Digest
from imgfs.imports.receipt import Receipt
from imgfs.vfs.nodes import (
    NEVER,
    READ_ONLY_FILE,
    AttributeChange,
    Attributes,
    Reader,
    ReadOnlyNode,
)

if TYPE_CHECKING:
    from imgfs.imports.uploaded_directory import UploadedDirectory
    from imgfs.imports.uploaded_file import UploadedFile


class StoredBlob(ReadOnlyNode):
    """A blob of the store where nobody has written it; it is read-only, and has no time.

    A name that no system call has seen may be made, as tar does, which does not look first.
    """

    may_block: ClassVar[bool] = True

    def __init__(self, parent: "UploadedDirectory", digest: Digest, size: int) -> None:
        self.key = f"{parent.key}/{digest}"
        self.digest = digest
        self.size = size
        self._parent = parent

    def attributes(self) -> Attributes:
        return Attributes(READ_ONLY_FILE, self.size, block_size=1 << 20, timeout=NEVER)

    async def set_attributes(self, _change: AttributeChange, /) -> None:
        """Ignore the change: copiers set the times and permissions of what they find."""

    def set_xattr(self, _name: str, _value: bytes, /) -> None:
        """Ignore the attribute, as `set_attributes` does."""

    def open(self) -> Reader:
        return self._parent.upload.services.open_blob(self.digest)

    def writable(self) -> "UploadedFile":
        """Return a file that takes the blob's own bytes only, and is listed from now on."""
        return self._parent.adopt(self, Receipt(0o444, None, None, 0))


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

"""The files of the mounted tree whose bytes are in blobs."""

import errno
import mmap
import os
from collections.abc import Callable, Mapping
from typing import ClassVar

import msgspec

from engine.content.protocols import Provider, ReaderAt
from engine.spec.digest import Digest
from imgfs.vfs.nodes import NEVER, READ_ONLY_FILE, Attributes, Reader, ReadOnlyNode

_BLOCK_SIZE = 1 << 20


class BlobSource(msgspec.Struct, frozen=True):
    """The source of the bytes and link counts of blob files.

    `links` returns how many images contain a blob, for which it waits for the network if
    `is_remote`. All readers share the buffer `window` for reads that the page cache answers, in the
    event loop.
    """

    provider: Provider
    links: Callable[[Digest], int]
    window: memoryview
    is_remote: bool


class BlobFile(ReadOnlyNode, msgspec.Struct, frozen=True):
    """A blob: one inode in all directories, with a link for each image that contains it."""

    source: BlobSource
    digest: Digest
    size: int
    media_type: str
    may_block: ClassVar[bool] = True

    @property
    def key(self) -> str:
        return f"blob:{self.digest}"

    @property
    def is_remote(self) -> bool:
        return self.source.is_remote

    def attributes(self) -> Attributes:
        links = max(1, self.source.links(self.digest))
        return Attributes(
            READ_ONLY_FILE, self.size, links=links, block_size=_BLOCK_SIZE, timeout=NEVER
        )

    def xattrs(self) -> Mapping[str, bytes]:
        values = {"user.oci.digest": self.digest, "user.oci.mediatype": self.media_type}
        return {name: value.encode() for name, value in values.items() if value}

    def open(self) -> Reader:
        return BlobReader(self.source.provider.open(self.digest), self.source.window)


def blob_opener(provider: Provider) -> Callable[[Digest], Reader]:
    """Return a function that opens blobs, whose readers share a buffer in the event loop."""
    window = memoryview(mmap.mmap(-1, _BLOCK_SIZE))
    return lambda digest: BlobReader(provider.open(digest), window)


class LayoutFile(ReadOnlyNode, msgspec.Struct, frozen=True):
    """A blob as a file of one image's archive, with the image's time in nanoseconds."""

    key: str
    provider: Provider
    digest: Digest
    size: int
    mtime: int
    may_block: ClassVar[bool] = True

    def attributes(self) -> Attributes:
        return Attributes(READ_ONLY_FILE, self.size, self.mtime, block_size=_BLOCK_SIZE)

    def open(self) -> Reader:
        return _LayoutReader(self.provider.open(self.digest))


class _LayoutReader:
    """An open file that may have to decompress what it reads."""

    def __init__(self, reader: ReaderAt) -> None:
        self._reader = reader

    def read(self, offset: int, size: int) -> bytes:
        return self._reader.pread(size, offset)

    def read_at_once(self, _offset: int, _size: int) -> None:
        return None

    def fileno(self) -> int | None:
        """Return None: the stored bytes may be compressed."""
        return None

    def close(self) -> None:
        self._reader.close()


class BlobReader:
    """An open blob, which can be read even after it is deleted from the store."""

    def __init__(self, reader: ReaderAt, window: memoryview) -> None:
        self._reader = reader
        self._window = window
        self._descriptor: int | None = reader.fileno()

    def read(self, offset: int, size: int) -> bytes:
        return self._reader.pread(size, offset)

    def read_at_once(self, offset: int, size: int) -> memoryview | None:
        """Read from the page cache."""
        wanted = max(0, min(size, self._reader.size - offset))
        if self._descriptor is None or wanted > len(self._window):
            return None
        view = self._window[:wanted]
        try:
            read = os.preadv(self._descriptor, [view], offset, os.RWF_NOWAIT)
        except BlockingIOError:
            return None
        except OSError as error:
            if error.errno not in (errno.EOPNOTSUPP, errno.ENOSYS):
                raise
            self._descriptor = None  # the file system does not support RWF_NOWAIT
            return None
        return view if read == wanted else None

    def fileno(self) -> int | None:
        return self._reader.fileno()

    def close(self) -> None:
        self._reader.close()

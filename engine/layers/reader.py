"""Stored layers as if they were not compressed: read at any offset, by any number of threads.

The first pass over a layer learns on its way where decompression can begin, for all readers of the
same `UncompressedBlobs`: later ones begin near to what they want. A single zstd frame has no such
places, so there only going on is cheap. Memory is bounded as `chunks.py` says.
"""

import errno
import os
from threading import Lock
from types import TracebackType
from typing import Self

from engine.content.protocols import ReaderAt
from engine.layers.chunks import CACHED, Chunks, CompressedBlob
from engine.layers.diff_ids import LabelledProvider, compression_of, uncompressed_size
from engine.layers.seek_index import CHUNK


class UncompressedBlobs:
    """The layers of a store, uncompressed: a `Provider` by the digests of what is stored."""

    def __init__(self, store: LabelledProvider, cached: int = CACHED) -> None:
        """`cached` is how many decompressed bytes are kept for who asks next."""
        self._store = store
        self._chunks = Chunks(cached)

    def open(self, digest: str) -> ReaderAt:
        """Open the layer of that digest; one that is not compressed is opened as it is.

        NotFound; BrokenArchive where its size was not known yet and cannot be learnt.
        """
        source = self._store.open(digest)
        try:
            compression = compression_of(source)
            if compression == "none":
                return source
            size = uncompressed_size(self._store, digest)
        except BaseException:
            source.close()
            raise
        return UncompressedReader(self._chunks, CompressedBlob(digest, compression, size), source)


class UncompressedReader:
    """A `ReaderAt` on what comes out of a compressed blob. It closes `source`, the stored blob.

    `close` ends no `pread` that is under way in another thread; one that comes later is a
    ValueError.
    """

    def __init__(self, chunks: Chunks, blob: CompressedBlob, source: ReaderAt) -> None:
        self._chunks = chunks
        self._blob = blob
        self._source = source
        self._lock = Lock()
        self._users = 1
        self._closed = False

    @property
    def size(self) -> int:
        return self._blob.size

    def pread(self, length: int, offset: int) -> bytes:
        """As `ReaderAt.pread`; BrokenArchive, named by the digest.

        A checksum is behind what it is of: damage may show only at the end of the layer.
        """
        with self._lock:
            if self._closed:
                raise ValueError("read of a closed blob")
            self._users += 1
        try:
            return self._pread(length, offset)
        finally:
            self._release()

    def fileno(self) -> int | None:
        """Return None: no file holds the uncompressed bytes."""
        return None

    def close(self) -> None:
        with self._lock:
            if self._closed:
                return
            self._closed = True
        self._release()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _pread(self, length: int, offset: int) -> bytes:
        if offset < 0:
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
        end = min(offset + length, self.size)
        parts = []
        while offset < end:
            number, start = divmod(offset, CHUNK)
            chunk = self._chunks.get(self._blob, number, self._source)
            part = chunk[start : start + end - offset]
            offset += len(part)
            parts.append(part)
        return b"".join(parts)

    def _release(self) -> None:
        with self._lock:
            self._users -= 1
            is_last = not self._users
        if is_last:
            self._source.close()

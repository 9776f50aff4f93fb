"""Random access to the uncompressed bytes of stored layers, for any number of threads.

The first pass over a layer records positions from which decompression can resume, and all readers
of the same `UncompressedBlobs` share them. A single zstd frame has no such positions, so only
reading it in order is cheap. `chunks.py` documents the bounds on memory.
"""

import errno
import os
from threading import Lock

from engine.closing import Closing
from engine.content.protocols import ReaderAt
from engine.layers.chunks import CACHED, Chunks, CompressedBlob
from engine.layers.diff_ids import LabelledProvider, compression_of, uncompressed_size
from engine.layers.seek_index import CHUNK


class UncompressedBlobs:
    """A `Provider` of uncompressed layers, addressed by the digests of the stored blobs."""

    def __init__(self, store: LabelledProvider, cached: int = CACHED) -> None:
        """At most `cached` bytes of decompressed data are kept."""
        self._store = store
        self._chunks = Chunks(cached)

    def open(self, digest: str) -> ReaderAt:
        """Open the layer; one that is stored uncompressed is opened directly.

        Raise NotFound if the layer is absent; BrokenArchive if its uncompressed size is not
        recorded and the layer is too damaged to determine it.
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


class UncompressedReader(Closing):
    """A `ReaderAt` of the decompressed bytes of `source`, the stored blob, which it closes.

    `close` does not interrupt a `pread` in another thread; a later `pread` raises ValueError.
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
        """Return bytes as `ReaderAt.pread` does; raise BrokenArchive, which names the digest.

        A checksum follows the data that it covers, so damage may be detected only at the end of the
        layer.
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

"""One file of a directory that is loaded, written at any offset."""

from engine.archive.content_pool import BUFFERED_FILE
from engine.archive.gaps import Gaps
from engine.archive.member_content import Buffered, Ingested
from engine.content.writer import Writer
from engine.errors import LimitExceeded
from engine.layers.follower import LayerFollower, Outcome
from engine.limits import Expansion
from engine.spec import digest as digests
from engine.spec.digest import Digest
from engine.stores.protocols import ContentStore


class FileWriter:
    """The bytes of one file: in memory while there are few, then in an ingest; for one thread at a
    time.

    Bytes that come in order are hashed as they come, and the table of a layer is made of them.
    """

    def __init__(
        self, store: ContentStore, expansion: Expansion, most: int, algorithm: str = "sha256"
    ) -> None:
        """`most` is the limit of the file's size in bytes; `algorithm` is that of its digest."""
        self._store = store
        self._expansion = expansion
        self._most = most
        self._algorithm = algorithm
        self._data = bytearray()
        self._ingest: Writer | None = None
        self._layer: LayerFollower | None = None
        """Follows an ingest as long as its bytes come in order."""
        self._gaps = Gaps()
        self.size = 0

    @property
    def has_gaps(self) -> bool:
        """Whether there are bytes that nobody has written; they are zeros."""
        return bool(self._gaps)

    @property
    def ingest(self) -> Writer | None:
        """The ingest with the bytes, None while they are in memory."""
        return self._ingest

    def write(self, data: bytes | memoryview, offset: int) -> None:
        """Write bytes at an offset; bytes before it that were never written are zeros.

        Raise LimitExceeded if the file becomes too large, and OSError.
        """
        end = offset + len(data)
        if end > self._most:
            raise LimitExceeded("file", "bytes", self._most, end)
        if self._ingest is None and end > BUFFERED_FILE:
            self._ingest = self._store.unnamed_writer(algorithm=self._algorithm)
            self._layer = LayerFollower(self._ingest.pread, self._expansion.add)
            self._append(memoryview(bytes(self._data)))
            self._data.clear()
        if self._ingest is None:
            self._data += bytes(max(0, offset - len(self._data)))
            self._data[offset:end] = data
        elif offset == self.size:
            self._append(memoryview(data))
        else:
            self._stop_following()
            self._ingest.pwrite(data, offset)
        self._gaps.fill(offset, end)
        self._gaps.add(self.size, offset)
        self.size = max(self.size, end)

    def read(self, length: int, offset: int) -> bytes:
        """Return up to `length` bytes from `offset`; fewer only at the end of the file."""
        if self._ingest is None:
            return bytes(self._data[offset : offset + length])
        return self._ingest.pread(length, offset)

    def truncate(self, size: int) -> None:
        """Cut the file at `size` bytes, or extend it with zeros; raise as `write` does."""
        before = self.size
        if size > before:
            self.write(b"\0", size - 1)
            self._gaps.cut(before)
            self._gaps.add(before, size)
        elif self._ingest is None:
            del self._data[size:]
        elif size < self.size:
            self._stop_following()
            self._ingest.truncate(size)
        self._gaps.cut(size)
        self.size = size

    def content(self, name: str) -> Buffered | Ingested:
        """Return the content so far under a name. More may be written afterwards."""
        if self._ingest is None:
            data = bytes(self._data)
            return Buffered(name, digests.of_bytes(data, self._algorithm).raw, data)
        digest, layer = self._ingest.digest(), self._layer
        known = Outcome() if layer is None else layer.end(digest, self.size)
        return Ingested(name, digest, self.size, self._ingest, known)

    def digest(self) -> Digest:
        """Return the digest of the bytes so far."""
        if self._ingest is None:
            return digests.of_bytes(self._data, self._algorithm)
        return self._ingest.digest()

    def sync(self) -> None:
        """Make the bytes of an ingest durable."""
        if self._ingest is not None:
            self._store.prepare([self._ingest])

    def abort(self) -> None:
        """Drop the bytes."""
        self._data.clear()
        self._stop_following()
        if self._ingest is not None:
            self._ingest.abort()

    def _append(self, data: memoryview) -> None:
        assert self._ingest is not None
        try:
            self._ingest.write(data)
        except BaseException:  # a part may have been written, which is not followed
            self._stop_following()
            raise
        if self._layer is not None:
            self._layer.add(data)

    def _stop_following(self) -> None:
        if self._layer is not None:
            self._layer.stop()
            self._layer = None

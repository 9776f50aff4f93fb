"""The destinations of the data of an archive member, which hash it as it arrives."""

from typing import Protocol

from engine.archive.member_content import Buffered, Content, Damaged, Ingested, Stored
from engine.compression import decompress
from engine.content.writer import Writer
from engine.errors import BrokenArchive
from engine.layers.diff_ids import Measure, Uncompressed, compression_from
from engine.limits import Expansion
from engine.spec import digest as digests
from engine.spec.digest import Digest
from engine.threads import run_concurrently


class Sink(Protocol):
    """The destination of the data of one member."""

    def write(self, data: memoryview) -> None: ...

    def close(self) -> Content | Damaged: ...

    def abandon(self) -> None: ...


class BufferSink:
    """A sink that keeps the data in memory."""

    def __init__(self, name: str, expected: Digest | None) -> None:
        self._name = name
        self._algorithm = expected.algorithm if expected else "sha256"
        self._data = bytearray()

    def write(self, data: memoryview) -> None:
        self._data += data

    def close(self) -> Content:
        data = bytes(self._data)
        return Buffered(self._name, digests.of_bytes(data, self._algorithm).raw, data)

    def abandon(self) -> None:
        self._data.clear()


class IngestSink:
    """A sink that writes an ingest and measures a compressed layer at the same time."""

    def __init__(self, name: str, writer: Writer, expansion: Expansion) -> None:
        self._name = name
        self._writer = writer
        self._size = 0
        self._diff = DiffHasher(expansion)

    def write(self, data: memoryview) -> None:
        measured = run_concurrently(self._diff.write, data)
        try:
            self._writer.write(data)
        finally:
            measured()
        self._size += len(data)

    def close(self) -> Content:
        digest = self._writer.digest()
        uncompressed = self._diff.close(digest, self._size)
        return Ingested(self._name, digest, self._size, self._writer, uncompressed)

    def abandon(self) -> None:
        self._writer.abort()


class CheckSink:
    """A sink for a blob that the store holds: it hashes the data and does not write it."""

    def __init__(self, name: str, expected: Digest, size: int, diff_id: Digest | None) -> None:
        self._name = name
        self._expected = expected
        self._size = size
        self._diff_id = diff_id
        self._hash = digests.hasher(expected.algorithm)

    def write(self, data: memoryview) -> None:
        self._hash.update(data)

    def close(self) -> Content | Damaged:
        found = digests.from_hash(self._expected.algorithm, self._hash)
        if found != self._expected:
            return Damaged(self._name, found, self._size, self._expected)
        return Stored(self._name, found, self._size, self._diff_id)

    def abandon(self) -> None:
        """Do nothing: no data is kept."""


class DiffHasher:
    """Measures the uncompressed bytes of a compressed layer as it arrives."""

    def __init__(self, expansion: Expansion) -> None:
        self._expansion = expansion
        self._head = bytearray()
        self._decompressor: decompress.Decompressor | None = None
        self._measure = Measure()
        self._is_plain = False
        self._failed = False

    def write(self, data: memoryview) -> None:
        if self._is_plain or self._failed:
            return
        if len(self._head) < decompress.SNIFFED:
            taken = decompress.SNIFFED - len(self._head)
            self._head += data[:taken]
            if len(self._head) < decompress.SNIFFED:
                return
            kind = compression_from(bytes(self._head))
            if kind == "none":
                self._is_plain = True
                return
            self._decompressor = decompress.new(kind)
            self._feed(bytes(self._head))
            data = data[taken:]
        self._feed(data)

    def close(self, digest: Digest, size: int) -> Uncompressed | None:
        """Return the diff ID and size of the member with this digest and size; None if it is
        damaged.
        """
        if self._decompressor is None:
            return Uncompressed(digest, size)
        if self._failed:
            return None
        try:
            self._decompressor.finish()
        except BrokenArchive:
            return None
        return self._measure.result()

    def _feed(self, data: bytes | memoryview) -> None:
        assert self._decompressor is not None
        try:
            for chunk in self._decompressor.feed(data):
                self._expansion.add(len(chunk))
                self._measure.update(chunk)
        except BrokenArchive:
            self._failed = True

"""The destinations of the data of an archive member, which hash it as it arrives."""

from typing import Protocol

from engine.archive.member_content import Buffered, Content, Damaged, Ingested, Stored
from engine.content.writer import Writer
from engine.layers.follower import LayerFollower
from engine.limits import Expansion
from engine.spec import digest as digests
from engine.spec.digest import Digest


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
    """A sink that writes an ingest, which is followed to learn what is in a layer."""

    def __init__(self, name: str, writer: Writer, expansion: Expansion) -> None:
        self._name = name
        self._writer = writer
        self._layer = LayerFollower(writer.pread, expansion.add)

    def write(self, data: memoryview) -> None:
        self._writer.write(data)
        self._layer.add(data)

    def close(self) -> Content:
        digest, size = self._writer.digest(), self._writer.offset
        return Ingested(self._name, digest, size, self._writer, self._layer.finish(digest, size))

    def abandon(self) -> None:
        self._layer.stop()
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

"""The destinations of the data of an archive member, which hash it as it arrives."""

from collections.abc import Callable
from functools import partial
from typing import Protocol

from engine.archive.member_content import Buffered, Content, Damaged, Ingested, Stored
from engine.compression import decompress
from engine.content.protocols import Writer
from engine.errors import BrokenArchive
from engine.layers.diff_ids import Uncompressed, compression_from
from engine.layers.learning import LayerLearner, Learnt
from engine.layers.table_codec import dump
from engine.limits import Expansion, Limits
from engine.spec import digest as digests
from engine.spec.digest import Digest
from engine.threads import begin


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
    """A sink that writes an ingest and learns what is in a layer at the same time."""

    def __init__(self, name: str, writer: Writer, expansion: Expansion) -> None:
        self._name = name
        self._writer = writer
        self._size = 0
        self._layer = _LayerPass(expansion)

    def write(self, data: memoryview) -> None:
        learnt = self._layer.begin(data)
        try:
            self._writer.write(data)
        finally:
            learnt()
        self._size += len(data)

    def close(self) -> Content:
        digest = self._writer.digest()
        learnt = self._layer.close()
        if learnt is None:
            return Ingested(self._name, digest, self._size, self._writer, None)
        uncompressed = learnt.uncompressed or Uncompressed(digest, self._size)
        table = begin(dump, learnt.table)
        return Ingested(self._name, digest, self._size, self._writer, uncompressed, table)

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


class _LayerPass:
    """Learns what is in a layer as it arrives; another member is taken as a layer without files."""

    def __init__(self, expansion: Expansion) -> None:
        self._expansion = expansion
        self._head = bytearray()
        self._learner: LayerLearner | None = None
        self._counted: Callable[[int], object] = _ignore
        self._failed = False

    def begin(self, data: memoryview) -> Callable[[], None]:
        """Begin with the next bytes; return a function that completes the work on them."""
        taken = decompress.SNIFFED - len(self._head)
        self._head += data[:taken]
        if len(self._head) < decompress.SNIFFED or self._failed:
            return _nothing
        learner = self._learner or self._begun()
        return partial(self._complete, learner.begin(data[taken:], self._counted))

    def close(self) -> Learnt | None:
        """Return what was learnt of the member; None if it is damaged."""
        learner = self._learner or self._begun()
        try:
            return None if self._failed else learner.finish()
        except BrokenArchive:
            return None

    def _begun(self) -> LayerLearner:
        """Return a learner that has the first bytes, by which its compression is known."""
        kind = compression_from(bytes(self._head))
        if kind != "none":
            self._counted = self._expansion.add
        self._learner = LayerLearner(kind, Limits())
        self._complete(self._learner.begin(bytes(self._head), self._counted))
        return self._learner

    def _complete(self, learnt: Callable[[], object]) -> None:
        try:
            learnt()
        except BrokenArchive:
            self._failed = True


def _nothing() -> None:
    """Do nothing: the bytes are kept until they tell the compression, or the layer is damaged."""


def _ignore(_size: int) -> None:
    """Do not count the bytes of a member that is not compressed: they were counted before."""

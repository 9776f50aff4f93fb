"""The content of entries, verified while it is read.

Every blob is hashed, and a decompressed layer is compared with its diff ID. At most two chunks are
in memory, and one for each blob that is hashed ahead, or what `whole_layer` decompresses ahead.
"""

from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import AbstractContextManager, closing, contextmanager

import msgspec

from engine.archive.hashed_ahead import Hashed, HashingAhead, Put
from engine.closing import Closing
from engine.compression.checksum import crc32
from engine.content.protocols import Provider, ReaderAt
from engine.content.tables import TableStore
from engine.errors import BrokenArchive, ChangedFile, DigestMismatch, SizeMismatch
from engine.layouts.entry import Decompressed, Entry
from engine.spec import digest as digests
from engine.spec.digest import Digest
from engine.threads import begin, run_concurrently
from engine.tracing import Tracer

_CHUNK = 1 << 20
_EMPTY = b""
_BLOB_SPAN = "saveConfigAndLayer"


class Content(msgspec.Struct, frozen=True):
    """The bytes of an entry, to be read once.

    The last of the `chunks` is yielded only after all of them were verified; none is yielded if
    they were put where they belong. `descriptor` is a regular file that holds exactly these bytes,
    None if there is none; the content owns it.
    """

    chunks: Iterator[bytes]
    descriptor: int | None = None


class Source(msgspec.Struct, frozen=True):
    """The blobs that contents are read from, and the tables of their layers."""

    blobs: Provider
    tables: TableStore


class Contents(Closing):
    """The contents of entries, opened in their order; for one thread at a time."""

    def __init__(
        self, entries: Iterable[Entry], source: Source, tracer: Tracer, put: Put | None = None
    ) -> None:
        """`entries` is iterated over when blobs are looked for that can be hashed ahead.

        `put` may be given if blobs can be written in any order.
        """
        self._source = source
        self._tracer = tracer
        self._puts = put is not None
        self._ahead = HashingAhead(entries, source.blobs, put)

    def close(self) -> None:
        """Wait until no blob is read any more."""
        self._ahead.close()

    @contextmanager
    def opened(self, entry: Entry) -> Iterator[Content]:
        """Open the content of an entry; that of a directory is empty.

        Raise NotFound if its blob is absent. Reading raises SizeMismatch or DigestMismatch if the
        blob does not match the entry, BrokenArchive if it cannot be decompressed, ChangedFile if
        its bytes change while they are read.
        """
        match entry.content:
            case Digest() as digest:
                with self._span(digest, entry.size), self._stored(entry, digest) as content:
                    yield content
            case Decompressed(digest, diff_id):
                with (
                    self._span(diff_id, entry.size),
                    self._source.blobs.open(digest) as reader,
                    closing(_decompressed(entry, digest, self._source, reader)) as chunks,
                ):
                    yield Content(_verified(entry, diff_id, chunks))
            case data:
                yield Content(iter((data,) if data else ()))

    @contextmanager
    def _stored(self, entry: Entry, digest: Digest) -> Iterator[Content]:
        with self._ahead.take(entry, digest) as blob:
            if blob.reader.size != entry.size:
                raise SizeMismatch(entry.path, entry.size, blob.reader.size)
            chunks = _chunks(blob.reader)
            if blob.hashed is None:
                chunks = _verified(entry, digest, chunks)
            elif self._puts:
                chunks = _put(entry, digest, blob.hashed)
            else:
                chunks = _compared(entry, digest, chunks, blob.hashed)
            yield Content(chunks, blob.reader.fileno())

    def _span(self, digest: Digest, size: int) -> AbstractContextManager[object]:
        return self._tracer.span(_BLOB_SPAN, {"layer.id": digest, "layer.size": size})


def _verified(entry: Entry, digest: Digest, chunks: Iterable[bytes]) -> Iterator[bytes]:
    """Yield chunks, none of them empty; the last is yielded only after all were verified."""
    hasher = digests.hasher(digest.algorithm)
    last, size = _EMPTY, 0
    for chunk in chunks:
        hashed = run_concurrently(hasher.update, memoryview(chunk))
        if last:
            yield last
        hashed()
        size += len(chunk)
        if size > entry.size:
            break
        last = chunk
    if size != entry.size:
        raise SizeMismatch(entry.path, entry.size, size)
    found = digests.from_hash(digest.algorithm, hasher)
    if found != digest:
        raise DigestMismatch(entry.path, digest, found)
    if last:
        yield last


def _compared(
    entry: Entry, digest: Digest, chunks: Iterable[bytes], hashed: Callable[[], Hashed]
) -> Iterator[bytes]:
    """Yield the chunks of a blob that is hashed elsewhere, the last one as `_verified` does."""
    last, size, checksum = _EMPTY, 0, 0
    for chunk in chunks:
        if last:
            yield last
        checksum = crc32(chunk, checksum)
        size += len(chunk)
        last = chunk
    if size != entry.size:
        raise SizeMismatch(entry.path, entry.size, size)
    found = hashed()
    if found.digest != digest:
        raise DigestMismatch(entry.path, digest, found.digest)
    if found.checksum != checksum:
        raise ChangedFile(entry.path)
    yield last


def _put(entry: Entry, digest: Digest, hashed: Callable[[], Hashed]) -> Iterator[bytes]:
    """Wait until a blob is written; yield nothing."""
    found = hashed()
    if found.digest != digest:
        raise DigestMismatch(entry.path, digest, found.digest)
    yield from ()


def _decompressed(
    entry: Entry, digest: Digest, source: Source, reader: ReaderAt
) -> Generator[bytes, None, None]:
    from engine.layers.sections import whole_layer  # deferred with the decoders

    try:
        yield from whole_layer(source.tables, digest, reader)
    except BrokenArchive as error:
        raise BrokenArchive(entry.path, error.reason) from error


def _chunks(reader: ReaderAt) -> Iterator[bytes]:
    """Yield the bytes of a blob; a chunk of a large blob is read ahead."""
    position, size = 0, reader.size
    if size <= _CHUNK:
        yield from filter(None, (reader.pread(size, 0),))
        return
    coming = begin(reader.pread, _CHUNK, 0)
    while position < size and (data := coming()):
        position += len(data)
        if position < size:
            coming = begin(reader.pread, min(_CHUNK, size - position), position)
        yield data

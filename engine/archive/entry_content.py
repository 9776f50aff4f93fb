"""The content of entries, verified while it is read.

Every blob is hashed, and a decompressed layer is compared with its diff ID. At most two chunks are
in memory, and one for each blob that is hashed ahead, or what `whole_layer` decompresses ahead.
"""

from collections.abc import Generator, Iterable, Iterator
from contextlib import AbstractContextManager, closing, contextmanager

import msgspec

from engine.archive.checks import Check, DigestCheck, HashedCheck, PutCheck
from engine.archive.hashed_ahead import HashingAhead, Put
from engine.archive.pipe_copy import PipeCopy
from engine.closing import Closing
from engine.content.protocols import Provider, ReaderAt
from engine.content.tables import TableStore
from engine.errors import BrokenArchive, SizeMismatch
from engine.layouts.entry import Decompressed, Entry
from engine.spec.digest import Digest
from engine.threads import begin
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
        self,
        entries: Iterable[Entry],
        source: Source,
        tracer: Tracer,
        put: Put | None = None,
        pipe: PipeCopy | None = None,
    ) -> None:
        """`entries` is iterated over when blobs are looked for that can be hashed ahead.

        `put` may be given if blobs can be written in any order, and `pipe` if all that is yielded
        goes into one pipe at once.
        """
        self._pipe = pipe
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
                    yield Content(_checked(entry, chunks, DigestCheck(entry, diff_id)))
            case data:
                yield Content(iter((data,) if data else ()))

    @contextmanager
    def _stored(self, entry: Entry, digest: Digest) -> Iterator[Content]:
        with self._ahead.take(entry, digest) as blob:
            if blob.reader.size != entry.size:
                raise SizeMismatch(entry.path, entry.size, blob.reader.size)
            check: Check
            if blob.hashed is None:
                check = DigestCheck(entry, digest)
            elif self._puts:
                check = PutCheck(entry, digest, blob.hashed)
            else:
                check = HashedCheck(entry, digest, blob.hashed)
            chunks = self._unwritten(blob.reader, check)
            yield Content(_checked(entry, chunks, check), blob.reader.fileno())

    def _unwritten(self, reader: ReaderAt, check: Check) -> Iterator[bytes]:
        """Yield the bytes that are not where they belong already; the others are checked."""
        source, end = reader.fileno(), reader.size - _CHUNK
        if self._pipe is not None and source is not None:
            for piece in self._pipe.pieces(source, end):
                check.update(piece)
        yield from _chunks(reader, check.size)

    def _span(self, digest: Digest, size: int) -> AbstractContextManager[object]:
        return self._tracer.span(_BLOB_SPAN, {"layer.id": digest, "layer.size": size})


def _checked(entry: Entry, chunks: Iterable[bytes], check: Check) -> Iterator[bytes]:
    """Yield chunks, none of them empty; the last is yielded only after all were verified."""
    last = _EMPTY
    for chunk in chunks:
        taken = check.begin(chunk)
        if last:
            yield last
        taken()
        if check.size > entry.size:
            break
        last = chunk
    check.end()
    if last:
        yield last


def _decompressed(
    entry: Entry, digest: Digest, source: Source, reader: ReaderAt
) -> Generator[bytes, None, None]:
    from engine.layers.sections import whole_layer  # deferred with the decoders

    try:
        yield from whole_layer(source.tables, digest, reader)
    except BrokenArchive as error:
        raise BrokenArchive(entry.path, error.reason) from error


def _chunks(reader: ReaderAt, position: int) -> Iterator[bytes]:
    """Yield the bytes of a blob from a position on; a chunk is read ahead while there are more."""
    size = reader.size
    if size - position <= _CHUNK:
        yield from filter(None, (reader.pread(size - position, position),))
        return
    coming = begin(reader.pread, _CHUNK, position)
    while position < size and (data := coming()):
        position += len(data)
        if position < size:
            coming = begin(reader.pread, min(_CHUNK, size - position), position)
        yield data

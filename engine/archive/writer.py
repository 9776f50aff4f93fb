"""Writing of the entries of a layout as a tar archive, byte for byte as Go's tools write it.

The entries have no owner; two zero blocks end the archive, without further padding. Every blob is
verified as it is copied, and a decompressed layer by its diff ID. At most two chunks are in memory.

A layer that does not match its diff ID ends the archive with an error. docker only warns of it and
writes the layer under its actual digest, to which nothing else in the archive refers.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence

from engine.content.protocols import Provider, ReaderAt
from engine.errors import BrokenArchive, DigestMismatch, SizeMismatch
from engine.layers.diff_ids import uncompressed_pieces
from engine.layouts.entry import Decompressed, Entry
from engine.progress import Done, Progress, ignore
from engine.spec import digest as digests
from engine.spec.digest import Digest
from engine.tar import header_encoder as encode
from engine.tar.header_encoder import Header
from engine.threads import begin, run_concurrently
from engine.tracing import Tracer, Untraced

_CHUNK = 1 << 20
_EMPTY = b""
_BLOB_SPAN = "saveConfigAndLayer"
_UNTRACED = Untraced()


def write_archive(
    entries: Sequence[Entry],
    provider: Provider,
    write: Callable[[bytes], object],
    progress: Progress = ignore,
    tracer: Tracer = _UNTRACED,
) -> int:
    """Write an archive; return its size in bytes.

    `progress` is called with the number of bytes written, the expected total, and the numbers of
    layers begun and of all layers. Raise SizeMismatch or DigestMismatch if a blob does not match
    its entry, BrokenArchive if it cannot be decompressed, NotFound if it is absent; the archive is
    then incomplete.
    """
    done, layers = 0, 0
    total = len(encode.END) + sum(encode.BLOCK + e.size + -e.size % encode.BLOCK for e in entries)
    total_layers = sum(entry.is_layer for entry in entries)
    for entry in entries:
        layers += entry.is_layer
        for data in _pieces(entry, provider, tracer):
            write(data)
            done += len(data)
            progress(Done(done, total, layers, total_layers))
    write(encode.END)
    done += len(encode.END)
    progress(Done(done, total, layers, total_layers))
    return done


def _pieces(entry: Entry, provider: Provider, tracer: Tracer) -> Iterator[bytes]:
    yield encode.encode(_header(entry))
    match entry.content:
        case Digest() as digest:
            with tracer.span(_BLOB_SPAN, {"layer.id": digest, "layer.size": entry.size}):
                yield from _verified(entry, digest, _blob(entry, digest, provider))
        case Decompressed(digest, diff_id):
            with tracer.span(_BLOB_SPAN, {"layer.id": diff_id, "layer.size": entry.size}):
                yield from _verified(entry, diff_id, _decompressed(entry, digest, provider))
        case bytes() as data if data:
            yield data
    if entry.size % encode.BLOCK:
        yield encode.padding(entry.size)


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


def _blob(entry: Entry, digest: Digest, provider: Provider) -> Iterator[bytes]:
    with provider.open(digest) as reader:
        if reader.size != entry.size:
            raise SizeMismatch(entry.path, entry.size, reader.size)
        yield from _chunks(reader)


def _decompressed(entry: Entry, digest: Digest, provider: Provider) -> Iterator[bytes]:
    with provider.open(digest) as reader:
        try:
            yield from map(bytes, uncompressed_pieces(reader))
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


def _header(entry: Entry) -> Header:
    if entry.is_directory:
        return Header(f"{entry.path}/", encode.DIRECTORY, entry.mode, mtime=entry.mtime)
    return Header(entry.path, mode=entry.mode, size=entry.size, mtime=entry.mtime)

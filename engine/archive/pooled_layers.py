"""The layers in a pool of contents: their diff IDs and tables, and other forms of them."""

from collections.abc import Iterable, Iterator
from contextlib import closing, suppress

from engine.archive.content_pool import ContentPool
from engine.archive.member_content import Content, Ingested, Stored
from engine.compression.options import Compression
from engine.content.protocols import ReaderAt
from engine.content.writer import Writer
from engine.errors import BrokenArchive
from engine.hashing.updates import hash_now
from engine.layers.diff_ids import (
    UNCOMPRESSED_LABEL,
    Uncompressed,
    compression_of,
    foreign_compression_of,
    measure,
    pieces_of,
)
from engine.layers.learning import learn
from engine.layers.table_codec import dump
from engine.limits import BUFFER_SIZE
from engine.progress import ignore
from engine.spec import digest as digests
from engine.spec.digest import Digest
from engine.spec.oci import Descriptor


def diff_id(pool: ContentPool, digest: Digest, algorithm: str = "sha256") -> Digest:
    """Return the digest of a layer's uncompressed bytes; raise BrokenArchive if damaged."""
    known = _known_diff_id(pool, digest)
    if known is not None and known.algorithm == algorithm:
        return known
    with pool.open(digest) as reader:
        if digest.algorithm == algorithm and compression_of(reader) == "none":
            return digest
        measured = hash_now(measure(reader, pool.called(digest), algorithm, pool.expansion.add))
    pool.measured[digest] = measured
    return measured.diff_id


def labelled_diff_id(pool: ContentPool, digest: Digest) -> Digest | None:
    """Return the diff ID that is a label of a blob of the store, None if there is no label."""
    label = pool.store.info(digest).labels.get(UNCOMPRESSED_LABEL)
    return digests.parse(label) if label else None


def compressed(pool: ContentPool, layer: Descriptor, compression: Compression) -> Descriptor:
    """Return the compressed form of a plain layer, from the store if it holds one."""
    kind = compression.kind
    for info in pool.store.labelled(UNCOMPRESSED_LABEL, layer.digest):
        pool.hold(info.digest)
        if pool.store.exists(info.digest):
            with pool.store.open(info.digest) as reader:
                if compression_of(reader) == kind:
                    return Descriptor(compression.media_type, info.digest, info.size)

    def write(reader: ReaderAt, writer: Writer) -> Uncompressed:
        with closing(compression.start(writer.write)) as compressor:
            for offset in range(0, reader.size, BUFFER_SIZE):
                compressor.write(reader.pread(BUFFER_SIZE, offset))
            compressor.finish()
        return Uncompressed(Digest(layer.digest), layer.size)

    made = pool.make(layer.digest, write)
    return Descriptor(compression.media_type, made.digest, made.size)


def plain(pool: ContentPool, layer: Content) -> Content:
    """Return a layer in a form that an image can hold.

    xz, bzip2, lzma and lz4, for which OCI has no media type, are decompressed. Raise
    BrokenArchive or LimitExceeded.
    """

    def write(reader: ReaderAt, writer: Writer) -> Uncompressed:
        size = 0
        try:
            for piece in pieces_of(reader, kind):
                pool.expansion.add(len(piece))
                writer.write(piece)
                size += len(piece)
        except BrokenArchive as error:
            raise BrokenArchive(layer.name, error.reason) from error
        return Uncompressed(writer.digest(), size)

    with pool.open(layer.digest) as reader:
        kind = foreign_compression_of(reader)
    return layer if kind == "none" else pool.make(layer.digest, write)


def tables(pool: ContentPool, layers: Iterable[str]) -> Iterator[tuple[str, bytes]]:
    """Yield the digests and the tables of those layers that the store does not hold yet.

    Those of layers that are damaged, or that came out of order, are left out.
    """
    for digest in dict.fromkeys(layers):
        match pool.get(Digest(digest)):
            case Ingested() as content if (table := content.outcome().table) is not None:
                yield digest, table
            case Ingested(uncompressed=None) | Stored() | None:
                continue
            case _:
                with suppress(BrokenArchive), pool.open(digest) as reader:
                    yield digest, dump(learn(reader, digest, ignore).table)


def _known_diff_id(pool: ContentPool, digest: Digest) -> Digest | None:
    match pool.get(digest):
        case Ingested(uncompressed=found):
            return found.diff_id if found else None
        case Stored(diff_id=known) if known is not None:
            return known
        case Stored() | None if pool.store.exists(digest):
            return labelled_diff_id(pool, digest)
    measured = pool.measured.get(digest)
    return measured.diff_id if measured else None

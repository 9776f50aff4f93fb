"""The uncompressed bytes of stored layers: how to read them, their digest (diff ID) and their size.

The first operation that decompresses a layer completely (a load, a commit, or `uncompressed`)
learns its diff ID and size and stores them as labels of the blob. As in OCI and containerd, a layer
is compressed with gzip or zstd; a layer in any other format is taken as uncompressed.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from typing import Final, Protocol

import msgspec

from engine.compression import decompress
from engine.content.protocols import Info, Provider, ReaderAt
from engine.errors import BrokenArchive, NotFound, StoreError
from engine.hashing.updates import Hashing, Update, hash_now
from engine.limits import BUFFER_SIZE
from engine.spec import digest as digests
from engine.spec.digest import Digest
from engine.tar.header_decoder import BLOCK

UNCOMPRESSED_LABEL: Final = "containerd.io/uncompressed"
"""The label that holds the diff ID on the blob of a compressed layer, as in containerd."""
SIZE_LABEL: Final = "imgfs.uncompressed.size"
"""The label that holds the uncompressed size in bytes, in decimal."""
_LAYER_COMPRESSIONS: Final = frozenset({"gzip", "zstd"})
_PIECE: Final = 4 << 10
"""Bytes read at a time where only the start of a layer is wanted."""
_MAGIC: Final = slice(257, 262)


class LabelledProvider(Provider, Protocol):
    """A store whose blobs can be read and labelled."""

    def open_for_parts(self, digest: str) -> ReaderAt: ...

    def info(self, digest: str) -> Info: ...

    def update(self, digest: str, labels: Mapping[str, str]) -> Info: ...


class Uncompressed(msgspec.Struct, frozen=True):
    """The digest and the size in bytes of the uncompressed content of a layer."""

    diff_id: Digest
    size: int

    @property
    def labels(self) -> dict[str, str]:
        """The labels that record this on the blob of the layer."""
        return {UNCOMPRESSED_LABEL: str(self.diff_id), SIZE_LABEL: str(self.size)}


class Measure:
    """An accumulator of the digest and size of uncompressed bytes."""

    def __init__(self, algorithm: str = "sha256") -> None:
        self._algorithm = algorithm
        self._hash = digests.hasher(algorithm)
        self._size = 0

    def add(self, data: memoryview) -> Update:
        """Add bytes, for the digest by the update that is returned."""
        self._size += len(data)
        return Update(self._hash, data)

    def result(self) -> Uncompressed:
        return Uncompressed(digests.from_hash(self._algorithm, self._hash), self._size)


def compression_of(reader: ReaderAt) -> str:
    """Return the compression of a layer: "gzip", "zstd" or "none"."""
    return compression_from(reader.pread(decompress.SNIFFED, 0))


def foreign_compression_of(reader: ReaderAt) -> str:
    """Return the compression of a layer if it is one that OCI has no media type for, else "none".

    The result is "xz", "bzip2", "lzma", "lz4" or "none".
    """
    kind = decompress.sniff(reader.pread(decompress.SNIFFED, 0))
    return "none" if kind in _LAYER_COMPRESSIONS else kind


def compression_from(head: bytes) -> str:
    """Return the compression of a layer, as `compression_of` does, from its first bytes.

    `head` is the first `decompress.SNIFFED` bytes, or the whole layer if it is shorter.
    """
    kind = decompress.sniff(head.ljust(decompress.SNIFFED, b"\0"))
    return kind if kind in _LAYER_COMPRESSIONS else "none"


def may_be_layer(reader: ReaderAt) -> bool:
    """Return whether a blob starts as a layer may: compressed, with a tar header, or with a zero
    block.
    """
    head = reader.pread(BLOCK, 0)
    return decompress.sniff(head) != "none" or head[_MAGIC] == b"ustar" or head == bytes(BLOCK)


def uncompressed_pieces(reader: ReaderAt, start: int = 0) -> Iterator[bytes | memoryview]:
    """Yield the uncompressed bytes of a layer from offset `start` on, in order.

    The part of a layer before `start` is not read if the layer is stored uncompressed. Raise
    BrokenArchive without a member if the layer is damaged.
    """
    compression = compression_of(reader)
    if compression == "none":
        yield from _stored_pieces(reader, start)
        return
    skipped = start
    for piece in pieces_of(reader, compression):
        rest = memoryview(piece)[skipped:]
        skipped -= len(piece) - len(rest)
        if rest:
            yield rest


def pieces_of(reader: ReaderAt, compression: str) -> Iterator[bytes | memoryview]:
    """Yield the content of a blob with this compression, decompressed and in order.

    Raise BrokenArchive without a member if the blob is damaged.
    """
    decompressor = decompress.new(compression)
    for data in _stored_pieces(reader, 0):
        yield from decompressor.feed(data)
    decompressor.finish()


def _stored_pieces(reader: ReaderAt, start: int) -> Iterator[bytes]:
    for offset in range(start, reader.size, BUFFER_SIZE):
        yield reader.pread(BUFFER_SIZE, offset)


def beginning(reader: ReaderAt, size: int) -> bytes:
    """Return the first `size` uncompressed bytes of a layer, fewer if the layer is shorter.

    Raise BrokenArchive without a member if the layer is damaged.
    """
    decompressor = decompress.new(compression_of(reader))
    head = bytearray()
    for offset in range(0, reader.size, _PIECE):
        for plain in decompressor.feed(reader.pread(_PIECE, offset)):
            head += plain[: size - len(head)]
            if len(head) == size:
                return bytes(head)
    return bytes(head)


def measure(
    reader: ReaderAt,
    subject: str,
    algorithm: str = "sha256",
    on_progress: Callable[[int], None] | None = None,
) -> Hashing[Uncompressed]:
    """Decompress a layer and return its digest and its size.

    `on_progress` is called with the size in bytes of each uncompressed piece. Raise BrokenArchive,
    which names `subject`, if the layer is damaged.
    """
    measured = Measure(algorithm)
    try:
        for plain in uncompressed_pieces(reader):
            if on_progress is not None:
                on_progress(len(plain))
            yield measured.add(memoryview(plain))
    except BrokenArchive as error:
        raise BrokenArchive(subject, error.reason) from error
    return measured.result()


def known(info: Info) -> Uncompressed | None:
    """Return what the labels of a blob record, None if they do not."""
    diff_id, size = info.labels.get(UNCOMPRESSED_LABEL), info.labels.get(SIZE_LABEL)
    return Uncompressed(digests.parse(diff_id), int(size)) if diff_id and size else None


def uncompressed(store: LabelledProvider, digest: str) -> Uncompressed:
    """Return the diff ID and uncompressed size of a stored layer.

    They are read from the labels of the blob; without labels the layer is decompressed and the
    result stored. Raise NotFound if the layer is absent, BrokenArchive if it is damaged.
    """
    info = store.info(digest)
    if (found := known(info)) is not None:
        return found
    with store.open(digest) as reader:
        if compression_of(reader) == "none":
            return Uncompressed(info.digest, info.size)
        found = hash_now(measure(reader, digest, _algorithm(info.labels)))
    keep(store, digest, found)
    return found


def keep(store: LabelledProvider, digest: str, found: Uncompressed) -> None:
    """Record what was measured of a layer, unless the store cannot be written, as a full one."""
    with suppress(NotFound, StoreError, OSError):
        store.update(digest, found.labels)


def uncompressed_size(store: LabelledProvider, digest: str) -> int:
    """Return the uncompressed size of a stored layer in bytes; raise as `uncompressed` does."""
    return uncompressed(store, digest).size


def _algorithm(labels: Mapping[str, str]) -> str:
    """Return the digest algorithm of the recorded diff ID, so that the diff ID stays the same."""
    label = labels.get(UNCOMPRESSED_LABEL)
    return digests.parse(label).algorithm if label else "sha256"

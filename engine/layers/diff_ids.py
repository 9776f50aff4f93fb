"""What a stored layer is when it is uncompressed: its diff ID and its size.

Both are learnt by whoever decompresses all of a layer first (a load, a commit, or `uncompressed`)
and kept as labels of its blob. A layer is compressed with gzip or zstd; whatever else it looks like
is what it holds, as OCI and containerd have it.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from typing import Final, Protocol

import msgspec

from engine.compression import decompress
from engine.content.protocols import Info, Manager, Provider, ReaderAt
from engine.errors import BrokenArchive, NotFound, StoreError
from engine.spec import digest as digests
from engine.spec.digest import Digest

UNCOMPRESSED_LABEL: Final = "containerd.io/uncompressed"
"""On a compressed layer's blob, as containerd has it: the diff ID."""
SIZE_LABEL: Final = "imgfs.uncompressed.size"
"""Beside it: how many bytes that are, in decimal."""
_LAYER_COMPRESSIONS: Final = frozenset({"gzip", "zstd"})
_CHUNK: Final = 1 << 20
_PIECE: Final = 4 << 10
_TAR_BLOCK: Final = 512
_MAGIC: Final = slice(257, 262)


class LabelledProvider(Provider, Manager, Protocol):
    """A store whose blobs can be read and labelled."""


class Uncompressed(msgspec.Struct, frozen=True):
    """The uncompressed bytes of a layer: their digest, and how many there are."""

    diff_id: Digest
    size: int

    @property
    def labels(self) -> dict[str, str]:
        """What the layer's blob is labelled with."""
        return {UNCOMPRESSED_LABEL: str(self.diff_id), SIZE_LABEL: str(self.size)}


class Measure:
    """Takes the uncompressed bytes of a layer in pieces."""

    def __init__(self, algorithm: str = "sha256") -> None:
        self._algorithm = algorithm
        self._hash = digests.hasher(algorithm)
        self._size = 0

    def update(self, data: bytes | memoryview) -> None:
        self._hash.update(data)
        self._size += len(data)

    def result(self) -> Uncompressed:
        return Uncompressed(digests.from_hash(self._algorithm, self._hash), self._size)


def compression_of(reader: ReaderAt) -> str:
    """What a layer is compressed with: "gzip", "zstd" or "none"."""
    return compression_from(reader.pread(decompress.SNIFFED, 0))


def foreign_compression_of(reader: ReaderAt) -> str:
    """What a layer is compressed with that OCI has no media type for, else "none".

    "xz", "bzip2", "lzma" or "lz4".
    """
    kind = decompress.sniff(reader.pread(decompress.SNIFFED, 0))
    return "none" if kind in _LAYER_COMPRESSIONS else kind


def compression_from(head: bytes) -> str:
    """As `compression_of`, of a layer that begins so, with `decompress.SNIFFED` bytes or all."""
    kind = decompress.sniff(head.ljust(decompress.SNIFFED, b"\0"))
    return kind if kind in _LAYER_COMPRESSIONS else "none"


def may_be_layer(reader: ReaderAt) -> bool:
    """Whether a blob begins as a layer does: compressed, with a member of a tar, or with zeros."""
    head = reader.pread(_TAR_BLOCK, 0)
    return decompress.sniff(head) != "none" or head[_MAGIC] == b"ustar" or head == bytes(_TAR_BLOCK)


def uncompressed_pieces(reader: ReaderAt) -> Iterator[bytes | memoryview]:
    """All that comes out of a layer, in order; BrokenArchive without a member."""
    return pieces_of(reader, compression_of(reader))


def pieces_of(reader: ReaderAt, compression: str) -> Iterator[bytes | memoryview]:
    """Yield all that comes out of a blob which is compressed so; BrokenArchive without a member."""
    decompressor = decompress.new(compression)
    for offset in range(0, reader.size, _CHUNK):
        yield from decompressor.feed(reader.pread(_CHUNK, offset))
    decompressor.finish()


def beginning(reader: ReaderAt, size: int) -> bytes:
    """Return the first `size` uncompressed bytes of a layer, fewer if it has no more; BrokenArchive
    without a member.
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
    tell: Callable[[int], None] | None = None,
) -> Uncompressed:
    """Decompress all of a layer; `subject` names it in errors, `tell` hears how many bytes each
    piece has. BrokenArchive.
    """
    measured = Measure(algorithm)
    try:
        for plain in uncompressed_pieces(reader):
            if tell is not None:
                tell(len(plain))
            measured.update(plain)
    except BrokenArchive as error:
        raise BrokenArchive(subject, error.reason) from error
    return measured.result()


def known(info: Info) -> Uncompressed | None:
    """What the labels of a blob say."""
    diff_id, size = info.labels.get(UNCOMPRESSED_LABEL), info.labels.get(SIZE_LABEL)
    return Uncompressed(digests.parse(diff_id), int(size)) if diff_id and size else None


def uncompressed(store: LabelledProvider, digest: str) -> Uncompressed:
    """What a stored layer is when it is uncompressed, from its labels if they say it.

    If they do not, all of it is decompressed and the answer kept. NotFound, BrokenArchive.
    """
    info = store.info(digest)
    if (found := known(info)) is not None:
        return found
    with store.open(digest) as reader:
        if compression_of(reader) == "none":
            return Uncompressed(info.digest, info.size)
        found = measure(reader, digest, _algorithm(info.labels))
    # The answer is right also where it cannot be kept, as in a store that is full.
    with suppress(NotFound, StoreError, OSError):
        store.update(digest, found.labels)
    return found


def uncompressed_size(store: LabelledProvider, digest: str) -> int:
    """How many bytes a stored layer has when it is uncompressed; as `uncompressed`."""
    return uncompressed(store, digest).size


def _algorithm(labels: Mapping[str, str]) -> str:
    """That of the diff ID which is known, so that it stays the same."""
    label = labels.get(UNCOMPRESSED_LABEL)
    return digests.parse(label).algorithm if label else "sha256"

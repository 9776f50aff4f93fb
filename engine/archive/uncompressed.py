"""What is in a stored layer, whatever its compression."""

from collections.abc import Iterator

from engine.archive import decompress
from engine.content import ReaderAt

_CHUNK = 1 << 20
COMPRESSIONS = ("gzip", "zstd")


def compression_of(reader: ReaderAt) -> str:
    """What a layer is compressed with: "gzip", "zstd" or "none"."""
    kind = decompress.sniff(reader.pread(decompress.SNIFFED, 0).ljust(decompress.SNIFFED, b"\0"))
    return kind if kind in COMPRESSIONS else "none"


def read(reader: ReaderAt) -> Iterator[bytes | memoryview]:
    """The uncompressed bytes, from the first to the last; BrokenArchive without a member."""
    decompressor = decompress.new(compression_of(reader))
    for offset in range(0, reader.size, _CHUNK):
        yield from decompressor.feed(reader.pread(_CHUNK, offset))
    decompressor.finish()

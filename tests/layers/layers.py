"""Compressed layers for tests, and stored blobs that tell where they are read."""

import gzip
import random
import sys
import zlib
from collections.abc import Callable
from typing import Self

from engine.layers.chunks import Chunks
from engine.layers.layer import Layer
from engine.layers.learning import learn
from engine.layers.table import LayerTable, StoredLayer
from engine.progress import ignore
from tests.filetree.layers import file, layer

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

MIB = 1 << 20


def words(size: int, seed: int = 0) -> bytes:
    """Bytes that compress well, and are nowhere the same."""
    chance = random.Random(seed)
    known = [chance.randbytes(chance.randrange(1, 12)).hex() for _ in range(3000)]
    return " ".join(chance.choices(known, k=size // 8 + 1)).encode()[:size]


SIZES = [0, 1, 100, 5000, 300_000, 4 * MIB, 7 * MIB, 40, 900_000]
CONTENTS = {f"d/{number}".encode(): words(size, number) for number, size in enumerate(SIZES)}


PLAIN = layer(*(file(path.decode(), text.decode()) for path, text in CONTENTS.items()))


def parts(compress: Callable[[bytes], bytes], size: int) -> bytes:
    return b"".join(compress(PLAIN[i : i + size]) for i in range(0, len(PLAIN), size))


def gzipped(data: bytes) -> bytes:
    return gzip.compress(data, 6, mtime=0)


def pigz(data: bytes) -> bytes:
    """One stream whose blocks do not refer to one another, as pigz -i and commits make it."""
    deflate = zlib.compressobj(6, wbits=31)
    blocks = [
        deflate.compress(data[i : i + 128 * 1024]) + deflate.flush(zlib.Z_FULL_FLUSH)
        for i in range(0, len(data), 128 * 1024)
    ]
    return b"".join(blocks) + deflate.flush()


def zstd_frame(data: bytes) -> bytes:
    return zstd.compress(data, options={zstd.CompressionParameter.checksum_flag: 1})


STREAMS: dict[str, bytes] = {
    "none": PLAIN,
    "gzip": gzipped(PLAIN),
    "gzip of independent blocks": pigz(PLAIN),
    "gzip of many members": parts(gzipped, 300_001),
    "gzip of members and padding": parts(gzipped, 3 * MIB) + bytes(1000),
    "gzip of stored blocks": gzip.compress(PLAIN, 0, mtime=0),
    "zstd": zstd_frame(PLAIN),
    "zstd of many frames": parts(zstd_frame, MIB),
    "zstd of frames of any size": parts(zstd_frame, 300_001),
}


class Blob:
    """A stored blob that tells where it was read, and how often closed."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.size = len(data)
        self.asked: list[int] = []
        self.closed = 0

    def pread(self, length: int, offset: int) -> bytes:
        assert not self.closed
        self.asked.append(offset)
        return self.data[offset : offset + length]

    def fileno(self) -> None:
        """Return None: it is in memory."""

    def close(self) -> None:
        self.closed += 1

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def first(self) -> int:
        """Where it was read first since it was asked last."""
        asked, self.asked = self.asked, []
        return min(asked, default=self.size)


def table_of(name: str) -> LayerTable:
    return learn(Blob(STREAMS[name]), "layer", ignore).table


TABLES = {name: table_of(name) for name in STREAMS}


def layer_of(name: str, chunks: Chunks, blob: Blob | None = None) -> Layer:
    return Layer(
        StoredLayer(f"digest of {name}", TABLES[name]), blob or Blob(STREAMS[name]), chunks
    )


def damaged(data: bytes, offset: int) -> bytes:
    return data[:offset] + bytes([data[offset] ^ 0x55]) + data[offset + 1 :]

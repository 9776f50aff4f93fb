"""Compressed layers read as if they were not compressed."""

import bz2
import gzip
import lzma
import random
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Self

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.compression import decompress
from engine.content.protocols import ReaderAt
from engine.errors import BrokenArchive, NotFound
from engine.layers.chunks import Chunks, CompressedBlob
from engine.layers.diff_ids import SIZE_LABEL
from engine.layers.reader import UncompressedBlobs, UncompressedReader
from engine.layers.seek_index import CHUNK, POINTS, SPACING, SeekIndex
from engine.stores.local.content import LocalContent
from engine.stores.local.database import Database
from engine.testing.blobs import write_blob

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

MIB = 1 << 20


def sample(size: int) -> bytes:
    """Bytes that compress to half, and are nowhere the same."""
    half = random.Random(size).randbytes(size // 2 + 1)
    return half.hex().encode()[:size]


PLAIN = sample(13 * MIB + 777)


def parts(compress: Callable[[bytes], bytes], size: int) -> bytes:
    return b"".join(compress(PLAIN[i : i + size]) for i in range(0, len(PLAIN), size))


def fast_gzip(data: bytes) -> bytes:
    return gzip.compress(data, 1, mtime=0)


def checked_zstd(data: bytes) -> bytes:
    return zstd.compress(data, options={zstd.CompressionParameter.checksum_flag: 1})


STREAMS: dict[str, bytes] = {
    "gzip": fast_gzip(PLAIN),
    "gzip of many members": parts(fast_gzip, 300_001),
    "gzip of members and padding": parts(fast_gzip, 3 * MIB) + bytes(1000),
    "zstd": checked_zstd(PLAIN),
    "zstd of many frames": parts(checked_zstd, MIB),
    "zstd of frames of any size": parts(checked_zstd, 300_001),
    "bzip2": bz2.compress(PLAIN, 1),
    "xz": lzma.compress(PLAIN, preset=0),
    "xz of many streams": parts(lambda data: lzma.compress(data, preset=0), 3 * MIB),
}
LAYERS = [name for name in STREAMS if name.startswith(("gzip", "zstd"))]


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
    def is_closed(self) -> bool:
        return bool(self.closed)

    @property
    def first(self) -> int:
        """Where it was read first since it was asked last."""
        asked, self.asked = self.asked, []
        return min(asked, default=self.size)


def reader_of(
    name: str, chunks: Chunks | None = None, blob: Blob | None = None, size: int = len(PLAIN)
) -> UncompressedReader:
    stored = CompressedBlob(f"digest of {name}", name.split()[0], size)
    return UncompressedReader(chunks or Chunks(), stored, blob or Blob(STREAMS[name]))


def damaged(data: bytes, offset: int) -> bytes:
    return data[:offset] + bytes([data[offset] ^ 0x55]) + data[offset + 1 :]


# -- what is read ---------------------------------------------------------------------------------


@pytest.mark.parametrize("step", [128 << 10, 3 * MIB + 1])
@pytest.mark.parametrize("name", STREAMS)
def test_in_order(name: str, step: int) -> None:
    with reader_of(name) as reader:
        assert reader.size == len(PLAIN)
        assert b"".join(reader.pread(step, i) for i in range(0, len(PLAIN), step)) == PLAIN


RANGES = st.lists(
    st.tuples(st.integers(0, 3 * MIB), st.integers(0, len(PLAIN) + 10)), min_size=1, max_size=12
)


@pytest.mark.parametrize("name", [name for name in STREAMS if name != "xz of many streams"])
@settings(max_examples=5, deadline=None)
@given(ranges=RANGES, cached=st.sampled_from([0, 2 * MIB, 64 * MIB]))
def test_anywhere(name: str, ranges: list[tuple[int, int]], cached: int) -> None:
    with reader_of(name, Chunks(cached)) as reader:
        for length, offset in ranges:
            assert reader.pread(length, offset) == PLAIN[offset : offset + length]


@pytest.mark.parametrize("offset", [len(PLAIN) - 1, len(PLAIN), len(PLAIN) + 1, 1 << 60])
def test_at_the_end(offset: int) -> None:
    with reader_of("gzip") as reader:
        assert reader.pread(10, offset) == PLAIN[offset:]


def test_a_negative_offset_is_refused_as_of_a_file() -> None:
    with reader_of("gzip") as reader, pytest.raises(OSError, match="Invalid argument"):
        reader.pread(10, -1)


def test_there_is_no_file() -> None:
    with reader_of("gzip") as reader:
        assert reader.fileno() is None


@pytest.mark.parametrize("size", [0, 1, CHUNK, 2 * CHUNK])
@pytest.mark.parametrize("compress", [fast_gzip, checked_zstd])
def test_sizes(size: int, compress: Callable[[bytes], bytes]) -> None:
    name = "gzip" if compress is fast_gzip else "zstd"
    with reader_of(name, blob=Blob(compress(PLAIN[:size])), size=size) as reader:
        assert reader.pread(5 * MIB, 0) == PLAIN[:size]
        assert reader.pread(5, size) == b""


# -- where it is read from ------------------------------------------------------------------------


@pytest.mark.parametrize("name", [n for n in STREAMS if n not in ("zstd", "bzip2", "xz")])
def test_a_second_reader_does_not_begin_at_zero(name: str) -> None:
    chunks = Chunks(cached=0)
    with reader_of(name, chunks) as reader:
        assert reader.pread(len(PLAIN), 0) == PLAIN
    blob = Blob(STREAMS[name])
    with reader_of(name, chunks, blob) as reader:
        assert reader.pread(100, 9 * MIB) == PLAIN[9 * MIB : 9 * MIB + 100]
    assert blob.first > blob.size // 4


@pytest.mark.parametrize("name", ["zstd", "xz", "bzip2"])
def test_a_stream_without_points_goes_on_where_it_stopped(name: str) -> None:
    chunks = Chunks()
    blob = Blob(STREAMS[name])
    with reader_of(name, chunks, blob) as reader:
        reader.pread(1, 8 * MIB)
        assert blob.first == 0
        for offset in (9 * MIB, 7 * MIB, 8 * MIB, 12 * MIB, 10 * MIB, 11 * MIB):
            assert reader.pread(1, offset) == PLAIN[offset : offset + 1]
        assert blob.first > 0
        assert reader.pread(1, 0) == PLAIN[:1]
        assert blob.first == 0


def test_readers_at_two_places_do_not_disturb_each_other() -> None:
    blob = Blob(STREAMS["zstd"])
    with reader_of("zstd", Chunks(cached=0), blob) as reader:
        reader.pread(MIB, 6 * MIB)
        reader.pread(MIB, 0)
        assert blob.first == 0
        for number in range(1, 6):
            assert reader.pread(MIB, number * MIB) == PLAIN[number * MIB : (number + 1) * MIB]
            offset = (6 + number) * MIB
            assert reader.pread(MIB, offset) == PLAIN[offset : offset + MIB]
        assert blob.first > 0


def test_what_is_cached_is_read_once() -> None:
    blob = Blob(STREAMS["gzip"])
    with reader_of("gzip", blob=blob) as reader:
        assert reader.pread(len(PLAIN), 0) == reader.pread(len(PLAIN), 0)
    assert len(blob.asked) == len(set(blob.asked))


def test_an_index_does_not_grow_without_end() -> None:
    index = SeekIndex("zstd")
    frame = zstd.compress(bytes(SPACING), 1)
    decompressor = decompress.resumable("zstd")
    total = 3 * POINTS
    for _ in range(total):
        assert sum(map(len, decompressor.feed(frame))) == SPACING
        index.offer(decompressor)
    firsts = {index.before(number * SPACING // CHUNK) for number in range(total)}
    assert POINTS // 2 <= len(firsts) <= POINTS
    assert max(firsts) >= (total - 8) * SPACING // CHUNK


# -- damage ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", STREAMS)
def test_damage_is_told_by_the_blobs_name(name: str) -> None:
    data = damaged(STREAMS[name], len(STREAMS[name]) * 2 // 3)
    with reader_of(name, blob=Blob(data)) as reader:
        for _ in range(2):
            with pytest.raises(BrokenArchive) as caught:
                reader.pread(len(PLAIN), 0)
            assert caught.value.member == f"digest of {name}"


@pytest.mark.parametrize("name", STREAMS)
def test_what_comes_before_the_damage_can_be_read(name: str) -> None:
    data = damaged(STREAMS[name], len(STREAMS[name]) * 2 // 3)
    with reader_of(name, blob=Blob(data)) as reader:
        assert reader.pread(4 * MIB, 0) == PLAIN[: 4 * MIB]


@pytest.mark.parametrize("size", [len(PLAIN), 13 * MIB])
@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda data: data[:-1], "truncated"),
        (lambda data: data[: len(data) // 2], "truncated"),
        (lambda data: data + b"rubbish", "garbage behind a gzip stream"),
        (lambda data: damaged(data, len(data) - 6), "damaged gzip stream"),
        (lambda data: data + fast_gzip(b"more"), "uncompressed bytes, found"),
        (lambda data: fast_gzip(gzip.decompress(data)[:-1]), "uncompressed bytes, found"),
    ],
)
def test_the_last_bytes_are_read_when_the_end_is_right(
    change: Callable[[bytes], bytes], reason: str, size: int
) -> None:
    blob = Blob(change(fast_gzip(PLAIN[:size])))
    with reader_of("gzip", blob=blob, size=size) as reader:
        with pytest.raises(BrokenArchive, match=reason):
            reader.pread(1, size - 1)
        assert reader.pread(MIB, 0) == PLAIN[:MIB]


def test_a_repaired_blob_is_read_anew() -> None:
    blob = Blob(damaged(STREAMS["gzip"], len(STREAMS["gzip"]) // 2))
    with reader_of("gzip", blob=blob) as reader:
        with pytest.raises(BrokenArchive):
            reader.pread(len(PLAIN), 0)
        blob.data = STREAMS["gzip"]
        assert reader.pread(len(PLAIN), 0) == PLAIN


def test_an_error_of_the_store_is_passed_on_and_not_remembered() -> None:
    class Failing(Blob):
        broken = False

        def pread(self, length: int, offset: int) -> bytes:
            if self.broken:
                raise OSError("no such luck")
            return super().pread(length, offset)

    blob = Failing(STREAMS["zstd"])
    with reader_of("zstd", blob=blob) as reader:
        assert reader.pread(MIB, 0) == PLAIN[:MIB]
        blob.broken = True
        with pytest.raises(OSError, match="no such luck"):
            reader.pread(len(PLAIN), 0)
        blob.broken = False
        assert reader.pread(len(PLAIN), 0) == PLAIN


# -- threads --------------------------------------------------------------------------------------


@pytest.mark.parametrize("cached", [0, 64 * MIB])
@pytest.mark.parametrize("name", ["gzip", "zstd", "zstd of many frames"])
def test_many_threads(name: str, cached: int) -> None:
    with reader_of(name, Chunks(cached)) as reader:

        def read(seed: int) -> bool:
            rng = random.Random(seed)
            ranges = [(rng.randrange(len(PLAIN)), rng.randrange(2 * MIB)) for _ in range(6)]
            ranges += [(i, 512 << 10) for i in range(0, len(PLAIN), 512 << 10)] * (seed % 2)
            return all(reader.pread(n, i) == PLAIN[i : i + n] for i, n in ranges)

        with ThreadPoolExecutor(6) as pool:
            assert all(pool.map(read, range(12)))


class Gated(Blob):
    """A blob that is read only when the gate is open."""

    def __init__(self, data: bytes) -> None:
        super().__init__(data)
        self.entered = threading.Event()
        self.gate = threading.Event()

    def pread(self, length: int, offset: int) -> bytes:
        self.entered.set()
        assert self.gate.wait(60)
        return super().pread(length, offset)


def test_threads_that_want_the_same_share_one_pass() -> None:
    blob = Gated(STREAMS["zstd"])
    with reader_of("zstd", blob=blob) as reader, ThreadPoolExecutor(4) as pool:
        whole = [pool.submit(reader.pread, len(PLAIN), 0) for _ in range(4)]
        assert blob.entered.wait(60)
        blob.gate.set()
        assert all(future.result() == PLAIN for future in whole)
    assert len(blob.asked) == len(set(blob.asked))


def test_closing_while_others_read() -> None:
    blob = Gated(STREAMS["gzip"])
    reader = reader_of("gzip", blob=blob)
    with ThreadPoolExecutor(1) as pool:
        reading = pool.submit(reader.pread, len(PLAIN), 0)
        assert blob.entered.wait(60)
        reader.close()
        reader.close()
        assert not blob.is_closed
        with pytest.raises(ValueError, match="closed"):
            reader.pread(1, 0)
        blob.gate.set()
        assert reading.result() == PLAIN
    assert blob.closed == 1


def test_a_failure_wakes_who_waits() -> None:
    blob = Gated(damaged(STREAMS["zstd"], 100_000))
    with reader_of("zstd", blob=blob) as reader, ThreadPoolExecutor(3) as pool:
        futures = [pool.submit(reader.pread, 1, len(PLAIN) - 1) for _ in range(3)]
        blob.gate.set()
        for future in futures:
            with pytest.raises(BrokenArchive):
                future.result()


# -- in a store -----------------------------------------------------------------------------------


@pytest.fixture
def store(tmp_path: Path) -> Iterator[LocalContent]:
    with Database(tmp_path / "imgfs.db") as database:
        yield LocalContent(tmp_path, database)


def stored(store: LocalContent, data: bytes) -> str:
    return write_blob(store, "test", data).info.digest


def read(reader: ReaderAt) -> bytes:
    with reader:
        return reader.pread(reader.size, 0)


@pytest.mark.parametrize("name", LAYERS)
def test_a_layer(store: LocalContent, name: str) -> None:
    digest = stored(store, STREAMS[name])
    assert read(UncompressedBlobs(store).open(digest)) == PLAIN
    assert store.info(digest).labels[SIZE_LABEL] == str(len(PLAIN))


@pytest.mark.parametrize("data", [b"", b"\x1f", PLAIN[:1000], STREAMS["xz"], STREAMS["bzip2"]])
def test_what_is_no_compressed_layer_is_what_it_holds(store: LocalContent, data: bytes) -> None:
    with UncompressedBlobs(store).open(stored(store, data)) as reader:
        assert reader.fileno() is not None
        assert reader.pread(len(data) + 1, 0) == data


def test_a_layer_that_is_deleted_stays_readable(store: LocalContent) -> None:
    digest = stored(store, STREAMS["gzip"])
    blobs = UncompressedBlobs(store)
    reader = blobs.open(digest)
    store.delete(digest)
    assert read(reader) == PLAIN
    with pytest.raises(NotFound):
        blobs.open(digest)


def test_a_damaged_layer(store: LocalContent) -> None:
    digest = stored(store, STREAMS["gzip"][:-1])
    with pytest.raises(BrokenArchive, match=digest):
        UncompressedBlobs(store).open(digest)

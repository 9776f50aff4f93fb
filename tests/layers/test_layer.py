"""Layers read at any offset: each byte is right, or an error."""

import random
import threading
import zlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.errors import BrokenArchive, DamagedLayer, NotFound
from engine.layers.chunks import CURSORS, Ahead, Chunks
from engine.layers.cursor import first_chunk
from engine.layers.diff_ids import SIZE_LABEL, UNCOMPRESSED_LABEL
from engine.layers.layer import Layer, Layers
from engine.layers.learning import learn
from engine.layers.points import SPACING
from engine.layers.reader import UncompressedBlobs
from engine.layers.table import CHUNK, StoredLayer
from engine.layers.table_codec import FORMAT
from engine.progress import Done, ignore
from engine.spec import digest as digests
from engine.stores.local.store import LocalStore
from engine.testing.blobs import write_blob
from tests.filetree.layers import file
from tests.filetree.layers import layer as tar_of
from tests.filetree.sparse import LAYER, SPARSE_CONTENT
from tests.layers.layers import (
    CONTENTS,
    MIB,
    PLAIN,
    STREAMS,
    TABLES,
    Blob,
    damaged,
    gzipped,
    layer_of,
)

ENTERED = [name for name in STREAMS if name not in ("none", "zstd")]


@pytest.fixture
def chunks(tmp_path: Path) -> Iterator[Chunks]:
    found = Chunks(tmp_path)
    yield found
    found.close()


def entry_of(layer: Layer, path: bytes) -> int:
    return list(layer.table.paths).index(path)


# -- what is read ---------------------------------------------------------------------------------


@pytest.mark.parametrize("name", STREAMS)
def test_files(name: str, chunks: Chunks) -> None:
    with layer_of(name, chunks) as layer:
        for path in [*CONTENTS, *reversed(CONTENTS)]:
            entry = layer.table.entry(entry_of(layer, path))
            expected = CONTENTS[path]
            assert layer.pread(entry, entry.size + 1, 0) == expected
            assert layer.pread(entry, 10, entry.size // 2) == expected[entry.size // 2 :][:10]
            assert layer.pread(entry, 10, entry.size) == b""
            if expected:
                assert entry.checksum == zlib.crc32(expected) << 32 | zlib.adler32(expected)


RANGES = st.lists(
    st.tuples(st.integers(0, 3 * MIB), st.integers(0, len(PLAIN) + 10)), min_size=1, max_size=12
)


@pytest.mark.parametrize("name", STREAMS)
@settings(max_examples=5, deadline=None)
@given(ranges=RANGES, cached=st.sampled_from([0, 2 * MIB, 64 * MIB]))
def test_anywhere(
    name: str, ranges: list[tuple[int, int]], cached: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    chunks = Chunks(tmp_path_factory.getbasetemp(), cached)
    with layer_of(name, chunks) as layer:
        for length, offset in ranges:
            assert layer.read(length, offset) == PLAIN[offset : offset + length]
    chunks.close()


def test_a_negative_offset_is_refused_as_of_a_file(chunks: Chunks) -> None:
    with layer_of("gzip", chunks) as layer, pytest.raises(OSError, match="Invalid argument"):
        layer.read(10, -1)


def test_sparse_files(tmp_path: Path) -> None:
    with LocalStore.create(tmp_path / "store") as store:
        digest = write_blob(store.content, "layer", gzipped(LAYER)).info.digest
        layers = Layers(store.content, store.tables, store.directory)
        with layers.open(digest) as layer:
            entry = layer.table.entry(entry_of(layer, b"sparse"))
            for start in range(len(SPARSE_CONTENT) + 1):
                for length in range(len(SPARSE_CONTENT) + 1):
                    expected = SPARSE_CONTENT[start : start + length]
                    assert layer.pread(entry, length, start) == expected
        layers.close()


# -- where it is read from ------------------------------------------------------------------------


@pytest.mark.parametrize("name", ENTERED)
def test_reading_begins_at_a_point(name: str, tmp_path: Path) -> None:
    table = TABLES[name]
    assert len(table.points) > 2
    gaps = [b.plain - a.plain for a, b in zip(table.points, table.points[1:], strict=False)]
    assert max(gaps) < 3 * SPACING
    blob, chunks = Blob(STREAMS[name]), Chunks(tmp_path, cached=0)
    offset = len(PLAIN) * 3 // 4
    with layer_of(name, chunks, blob) as layer:
        assert layer.read(100, offset) == PLAIN[offset : offset + 100]
    assert blob.first > blob.size // 4
    chunks.close()


def test_a_single_frame_goes_on_where_it_stopped(chunks: Chunks) -> None:
    assert len(TABLES["zstd"].points) == 1
    blob = Blob(STREAMS["zstd"])
    with layer_of("zstd", chunks, blob) as layer:
        layer.read(1, 6 * MIB)
        assert blob.first == 0
        layer.read(1, 9 * MIB)
        assert blob.first > 0


def test_a_single_frame_is_decompressed_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("engine.layers.chunks._FAR", 4)
    blob, chunks = Blob(STREAMS["zstd"]), Chunks(tmp_path, cached=0)
    with layer_of("zstd", chunks, blob) as layer:
        layer.read(1, len(PLAIN) - 1)
        blob.asked.clear()
        for offset in range(len(PLAIN) - 1, 4 * CHUNK, -MIB):
            assert layer.read(100, offset) == PLAIN[offset : offset + 100]
    assert blob.asked == []
    assert list(tmp_path.iterdir()) == []
    chunks.close()


def test_chunks_near_a_point_are_kept_in_no_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    far = 2 * SPACING // CHUNK
    monkeypatch.setattr("engine.layers.chunks._FAR", far)
    blob, stored = Blob(STREAMS["gzip"]), StoredLayer("sha256:near", TABLES["gzip"])
    chunks = Chunks(tmp_path, cached=0)
    for number in range(len(stored.table.checksums)):
        chunks.get(stored, number, blob)
    blob.asked.clear()
    chunks.get(stored, far + MIB // CHUNK, blob)
    assert blob.asked
    chunks.close()


def test_a_history_of_zeros(chunks: Chunks) -> None:
    chance = random.Random(1)
    values = range(128, 256)  # lower ones pass for positions of a history
    blocks = [bytes(300) + bytes(chance.choices(values, k=10_000)) for _ in range(1000)]
    deflate = zlib.compressobj(wbits=31)
    stored = [deflate.compress(one) + deflate.flush(zlib.Z_SYNC_FLUSH) for one in blocks]
    blob = Blob(b"".join(stored) + deflate.flush())
    table, plain = learn(blob, "layer", ignore).table, b"".join(blocks)
    assert len(table.points) > 2
    with Layer(StoredLayer("digest", table), blob, chunks) as layer:
        for point in table.points[::-1]:
            offset = first_chunk(point) * CHUNK
            assert layer.read(CHUNK, offset) == plain[offset : offset + CHUNK]


def test_what_is_cached_is_read_once(chunks: Chunks) -> None:
    blob = Blob(STREAMS["gzip"])
    with layer_of("gzip", chunks, blob) as layer:
        assert layer.read(len(PLAIN), 0) == layer.read(len(PLAIN), 0)
    assert len(blob.asked) == len(set(blob.asked))


# -- damage ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [name for name in STREAMS if name != "none"])
def test_a_layer_read_in_order_is_read_ahead(name: str, chunks: Chunks) -> None:
    blob, stored = Blob(STREAMS[name]), StoredLayer("sha256:read", TABLES[name])
    chunks.get(stored, 0, blob)
    assert chunks.due(stored, 0)
    chunks.get(stored, 1, blob)
    ahead = chunks.due(stored, 1)
    assert ahead == Ahead(first=2, count=2)
    assert chunks.due(stored, 1) is None
    chunks.read_ahead(stored, ahead, blob)
    found = [chunks.get_at_once(stored, number) for number in range(2, 5)]
    assert found == [PLAIN[n * CHUNK : (n + 1) * CHUNK] for n in (2, 3)] + [None]
    assert chunks.due(stored, 2) is None
    assert chunks.due(stored, 3) == Ahead(first=4, count=4)


class _HashedDigest(str):
    """A digest that tells when it is looked up."""

    __slots__ = ("on_hash",)

    def __init__(self, _: str) -> None:
        self.on_hash: Callable[[], object] = int

    def __hash__(self) -> int:
        on_hash, self.on_hash = self.on_hash, int
        on_hash()
        return super().__hash__()

    def __eq__(self, other: object) -> bool:
        return super().__eq__(other)


def test_what_is_due_is_taken_while_more_is_noted(chunks: Chunks) -> None:
    """The oldest note is taken by another thread at the moment in which it would be dropped."""
    oldest = _HashedDigest("oldest")
    digests = [oldest, *map(str, range(CURSORS))]
    layers = [StoredLayer(digest, TABLES["gzip"]) for digest in digests]
    for layer in layers[:-1]:
        chunks.get(layer, 0, Blob(STREAMS["gzip"]))
    oldest.on_hash = lambda: chunks.due(layers[0], 0)
    chunks.get(layers[-1], 0, Blob(STREAMS["gzip"]))
    assert chunks.due(layers[0], 0) is None
    assert chunks.due(layers[-1], 0) is not None


def test_nothing_is_read_ahead_behind_the_end(chunks: Chunks) -> None:
    blob, stored = Blob(STREAMS["gzip"]), StoredLayer("sha256:end", TABLES["gzip"])
    count = len(stored.table.checksums)
    chunks.read_ahead(stored, Ahead(count - 1, 4), blob)
    assert chunks.get_at_once(stored, count - 1)
    following = chunks.due(stored, count - 1)
    assert following is not None
    chunks.read_ahead(stored, following, blob)
    assert chunks.due(stored, count) is None


@pytest.mark.parametrize("name", STREAMS)
def test_a_flipped_byte_is_an_error_and_never_wrong_bytes(name: str, tmp_path: Path) -> None:
    data = STREAMS[name]
    chance = random.Random(name)
    places = [0, 3, len(data) - 1, *(chance.randrange(len(data)) for _ in range(12))]
    for place in places:
        chunks = Chunks(tmp_path)
        with layer_of(name, chunks, Blob(damaged(data, place))) as layer:
            for path, expected in CONTENTS.items():
                entry = layer.table.entry(entry_of(layer, path))
                with suppress(DamagedLayer):
                    assert layer.pread(entry, entry.size, 0) == expected
        chunks.close()


@pytest.mark.parametrize("name", STREAMS)
def test_damage_is_told_by_the_layers_name(name: str, chunks: Chunks) -> None:
    data = damaged(STREAMS[name], len(STREAMS[name]) * 2 // 3)
    with layer_of(name, chunks, Blob(data)) as layer:
        for _ in range(2):
            with pytest.raises(DamagedLayer, match=f"layer digest of {name}: is damaged"):
                layer.read(len(PLAIN), 0)
        assert layer.read(4 * MIB, 0) == PLAIN[: 4 * MIB]


@pytest.mark.parametrize("name", STREAMS)
def test_a_layer_that_has_become_shorter(name: str, chunks: Chunks) -> None:
    data = STREAMS[name]
    with (
        layer_of(name, chunks, Blob(data[: len(data) // 2])) as layer,
        pytest.raises(DamagedLayer),
    ):
        layer.read(len(PLAIN), 0)


def test_a_repaired_blob_is_read_anew(chunks: Chunks) -> None:
    blob = Blob(damaged(STREAMS["gzip"], len(STREAMS["gzip"]) // 2))
    with layer_of("gzip", chunks, blob) as layer:
        with pytest.raises(DamagedLayer):
            layer.read(len(PLAIN), 0)
        blob.data = STREAMS["gzip"]
        assert layer.read(len(PLAIN), 0) == PLAIN


def test_an_error_of_the_store_is_passed_on_and_not_remembered(chunks: Chunks) -> None:
    class Failing(Blob):
        broken = False

        def pread(self, length: int, offset: int) -> bytes:
            if self.broken:
                raise OSError("no such luck")
            return super().pread(length, offset)

    blob = Failing(STREAMS["zstd"])
    with layer_of("zstd", chunks, blob) as layer:
        assert layer.read(MIB, 0) == PLAIN[:MIB]
        blob.broken = True
        with pytest.raises(OSError, match="no such luck"):
            layer.read(len(PLAIN), 0)
        blob.broken = False
        assert layer.read(len(PLAIN), 0) == PLAIN


# -- threads --------------------------------------------------------------------------------------


@pytest.mark.parametrize("cached", [0, 64 * MIB])
@pytest.mark.parametrize("name", ["none", "gzip", "zstd", "zstd of many frames"])
def test_many_threads(name: str, cached: int, tmp_path: Path) -> None:
    chunks = Chunks(tmp_path, cached)
    with layer_of(name, chunks) as layer:

        def read(seed: int) -> bool:
            rng = random.Random(seed)
            ranges = [(rng.randrange(len(PLAIN)), rng.randrange(2 * MIB)) for _ in range(6)]
            ranges += [(i, 512 << 10) for i in range(0, len(PLAIN), 512 << 10)] * (seed % 2)
            return all(layer.read(n, i) == PLAIN[i : i + n] for i, n in ranges)

        with ThreadPoolExecutor(6) as pool:
            assert all(pool.map(read, range(12)))
    chunks.close()


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


def test_threads_that_want_the_same_share_one_pass(chunks: Chunks) -> None:
    blob = Gated(STREAMS["zstd"])
    with layer_of("zstd", chunks, blob) as layer, ThreadPoolExecutor(4) as pool:
        whole = [pool.submit(layer.read, len(PLAIN), 0) for _ in range(4)]
        assert blob.entered.wait(60)
        blob.gate.set()
        assert all(future.result() == PLAIN for future in whole)
    assert len(blob.asked) == len(set(blob.asked))


def test_closing_while_others_read(chunks: Chunks) -> None:
    blob = Gated(STREAMS["gzip"])
    layer = layer_of("gzip", chunks, blob)
    with ThreadPoolExecutor(1) as pool:
        reading = pool.submit(layer.read, len(PLAIN), 0)
        assert blob.entered.wait(60)
        layer.close()
        layer.close()
        assert blob.closed == 0
        with pytest.raises(ValueError, match="closed"):
            layer.read(1, 0)
        blob.gate.set()
        assert reading.result() == PLAIN
    assert [blob.closed] == [1]


def test_a_failure_wakes_who_waits(chunks: Chunks) -> None:
    blob = Gated(damaged(STREAMS["zstd"], 100_000))
    with layer_of("zstd", chunks, blob) as layer, ThreadPoolExecutor(3) as pool:
        futures = [pool.submit(layer.read, 1, len(PLAIN) - 1) for _ in range(3)]
        blob.gate.set()
        for future in futures:
            with pytest.raises(DamagedLayer):
                future.result()


# -- in a store -----------------------------------------------------------------------------------


@pytest.fixture
def store(tmp_path: Path) -> Iterator[LocalStore]:
    with LocalStore.create(tmp_path / "store") as store:
        yield store


@pytest.fixture
def layers(store: LocalStore) -> Iterator[Layers]:
    layers = Layers(store.content, store.tables, store.directory)
    yield layers
    layers.close()


def stored(store: LocalStore, data: bytes) -> str:
    return write_blob(store.content, "test", data).info.digest


@pytest.mark.parametrize("name", STREAMS)
def test_a_layer_is_learnt_at_the_first_look(store: LocalStore, layers: Layers, name: str) -> None:
    digest = stored(store, STREAMS[name])
    heard: list[Done] = []
    with layers.open(digest, heard.append) as layer:
        assert layer.read(len(PLAIN), 0) == PLAIN
    assert heard[-1] == Done(len(STREAMS[name]), len(STREAMS[name]))
    assert store.tables.get(digest) is not None
    labels = store.content.info(digest).labels
    if name != "none":
        assert labels[UNCOMPRESSED_LABEL] == digests.of_bytes(PLAIN)
        assert labels[SIZE_LABEL] == str(len(PLAIN))
    again = Layers(store.content, store.tables, store.directory)
    heard.clear()
    assert len(again.table(digest, heard.append)) == len(CONTENTS)
    assert heard == []
    again.close()


def test_a_damaged_table_is_made_again(store: LocalStore, layers: Layers) -> None:
    digest = stored(store, STREAMS["gzip"])
    layers.table(digest)
    table = store.tables.get(digest)
    assert table is not None
    for wrong in (damaged(table, 100), damaged(table, 19), b"", table[:-1]):
        store.tables.put(digest, wrong)
        fresh = Layers(store.content, store.tables, store.directory)
        assert len(fresh.table(digest)) == len(CONTENTS)
        assert store.tables.get(digest) == table
        fresh.close()


def test_a_table_of_another_version_is_made_again(store: LocalStore, layers: Layers) -> None:
    digest = stored(store, STREAMS["gzip"])
    layers.table(digest)
    table = store.tables.get(digest)
    assert table is not None
    header, current = FORMAT.header, FORMAT.version
    assert table.startswith(header)
    for version in (1, current - 1, current + 1):
        store.tables.put(digest, header[:-2] + version.to_bytes(2) + table[len(header) :])
        fresh = Layers(store.content, store.tables, store.directory)
        assert len(fresh.table(digest)) == len(CONTENTS)
        assert store.tables.get(digest) == table
        fresh.close()


def test_a_stored_table_is_shared(store: LocalStore, layers: Layers) -> None:
    digest = stored(store, STREAMS["none"])
    assert layers.stored_table(digest) is None
    table = layers.table(digest)
    assert layers.stored_table(digest) is table
    del table
    again = layers.stored_table(digest)
    assert again is not None
    assert layers.stored_table(digest) is layers.table(digest) is again


def test_a_layer_is_learnt_once_by_many_threads(store: LocalStore, layers: Layers) -> None:
    digest = stored(store, STREAMS["gzip"])
    heard: list[Done] = []
    with ThreadPoolExecutor(4) as pool:
        found = [pool.submit(layers.table, digest, heard.append) for _ in range(4)]
        assert all(one.result() is found[0].result() for one in found)
    assert [done.size for done in heard].count(len(STREAMS["gzip"])) == 1


def test_a_layer_too_damaged_to_learn(store: LocalStore, layers: Layers) -> None:
    digest = stored(store, STREAMS["gzip"][:-1])
    with pytest.raises(BrokenArchive, match=f"{digest}: is a truncated gzip stream"):
        layers.open(digest)
    assert store.tables.get(digest) is None


def test_a_layer_that_is_deleted_stays_readable(store: LocalStore, layers: Layers) -> None:
    digest = stored(store, STREAMS["gzip"])
    with layers.open(digest) as layer:
        store.content.delete(digest)
        assert layer.read(100, 0) == PLAIN[:100]
    with pytest.raises(NotFound):
        layers.open(digest)


def test_layers_as_if_they_were_not_compressed(store: LocalStore, layers: Layers) -> None:
    digest, plain = stored(store, STREAMS["gzip"]), stored(store, PLAIN)
    blobs = UncompressedBlobs(store.content, layers)
    with blobs.open(digest) as reader:
        assert reader.size == len(PLAIN)
        assert reader.pread(MIB, 5) == PLAIN[5 : MIB + 5]
        assert reader.fileno() is None
    with blobs.open(plain) as reader:
        assert reader.fileno() is not None


def test_the_table_is_small(store: LocalStore, layers: Layers) -> None:
    chance = random.Random(1)
    members = [file(f"d{n % 50}/file-{n}", chance.randbytes(6000).hex()) for n in range(2000)]
    data = gzipped(tar_of(*members))
    digest = stored(store, data)
    layers.table(digest)
    table = store.tables.get(digest)
    assert table is not None
    assert len(table) < len(data) / 100

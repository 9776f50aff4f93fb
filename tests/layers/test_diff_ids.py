"""What a layer is when it is uncompressed, and how that is kept."""

import gzip
import hashlib
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from engine.errors import BrokenArchive, NotFound, StoreError
from engine.layers.diff_ids import (
    SIZE_LABEL,
    UNCOMPRESSED_LABEL,
    Uncompressed,
    known,
    uncompressed,
    uncompressed_size,
)
from engine.spec.digest import of_bytes
from engine.stores.local.content import LocalContent
from engine.stores.local.database import Database
from engine.stores.local.files import LocalReader
from engine.testing.blobs import write_blob

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

PLAIN = b"a layer\n" * 200_000
GZIP = gzip.compress(PLAIN, mtime=0)
WHAT = Uncompressed(of_bytes(PLAIN), len(PLAIN))
LABELS = {UNCOMPRESSED_LABEL: of_bytes(PLAIN), SIZE_LABEL: str(len(PLAIN))}


class CountingStore(LocalContent):
    opened = 0

    def open(self, digest: str) -> LocalReader:
        self.opened += 1
        return super().open(digest)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[CountingStore]:
    with Database(tmp_path / "imgfs.db") as database:
        yield CountingStore(tmp_path, database)


@pytest.mark.parametrize("data", [GZIP, zstd.compress(PLAIN), GZIP + bytes(512)])
def test_it_is_learnt_once(store: CountingStore, data: bytes) -> None:
    digest = write_blob(store, "a", data).info.digest
    assert known(store.info(digest)) is None
    assert uncompressed_size(store, digest) == len(PLAIN)
    assert store.opened == 1
    assert store.info(digest).labels == LABELS
    assert uncompressed(store, digest) == WHAT == known(store.info(digest))
    assert store.opened == 1


@pytest.mark.parametrize("data", [b"", PLAIN])
def test_a_layer_that_is_not_compressed(store: CountingStore, data: bytes) -> None:
    digest = write_blob(store, "a", data).info.digest
    assert uncompressed(store, digest) == Uncompressed(of_bytes(data), len(data))
    assert store.info(digest).labels == {}


def test_a_diff_id_that_is_known_keeps_its_algorithm(store: CountingStore) -> None:
    diff_id = f"sha512:{hashlib.sha512(PLAIN).hexdigest()}"
    labels = {UNCOMPRESSED_LABEL: diff_id, "mine": "yes"}
    digest = write_blob(store, "a", GZIP, labels=labels).info.digest
    assert uncompressed(store, digest) == Uncompressed(of_bytes(PLAIN, "sha512"), len(PLAIN))
    assert store.info(digest).labels == {**labels, SIZE_LABEL: str(len(PLAIN))}


def test_the_answer_is_right_where_it_cannot_be_kept(
    store: CountingStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise StoreError("store", "the database is read-only")

    digest = write_blob(store, "a", GZIP).info.digest
    monkeypatch.setattr(store, "update", refuse)
    assert uncompressed(store, digest) == WHAT


def test_what_cannot_be_decompressed(store: CountingStore) -> None:
    digest = write_blob(store, "a", GZIP[:-9]).info.digest
    with pytest.raises(BrokenArchive, match=f"{digest}.*truncated"):
        uncompressed_size(store, digest)
    assert store.info(digest).labels == {}
    with pytest.raises(NotFound):
        uncompressed_size(store, of_bytes(b"absent"))

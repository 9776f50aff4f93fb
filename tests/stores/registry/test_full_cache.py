"""A cache that has no space left: what the registry has can still be read."""

import errno
from collections.abc import Iterator
from pathlib import Path

import pytest

from engine.content.blobs import read_blob
from engine.content.protocols import Bytes
from engine.stores.local.database import Database
from engine.stores.local.store import LocalStore
from engine.stores.local.writer import LocalWriter
from engine.stores.open import open_store
from engine.stores.protocols import Store
from engine.stores.registry.eviction import Eviction
from engine.stores.registry.sources import Source, Sources
from engine.testing.blobs import write_blob
from tests.archives import ImageParts, digest, layer
from tests.stores.registry.memory_registry import memory_registry

IMAGE = ImageParts(layers=(layer("large", bytes(range(256)) * 16384), layer("small")))
LARGE, SMALL = IMAGE.layers
FULL = [errno.ENOSPC, errno.EDQUOT, errno.EROFS]


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    """Open a store that knows an image, and has nothing of its layers."""
    with memory_registry() as registry:
        registry.put("app", "1", IMAGE)
        with open_store(f"registry://{registry.host}?cache={tmp_path}/cache") as opened:
            opened.images.get(f"{registry.host}/app:1")
            yield opened


def fill(monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    """Let no ingest have more than 1 MiB."""
    write = LocalWriter.write

    def limited(writer: LocalWriter, data: Bytes) -> int:
        if len(data) < 50_000 or writer.offset + len(data) > 1 << 20:
            raise OSError(number, "full")
        return write(writer, data)

    monkeypatch.setattr(LocalWriter, "write", limited)


@pytest.mark.parametrize("number", FULL)
@pytest.mark.parametrize("data", [LARGE, SMALL], ids=["large", "small"])
def test_a_blob_that_the_cache_has_no_space_for_is_read(
    store: Store, monkeypatch: pytest.MonkeyPatch, data: bytes, number: int
) -> None:
    with monkeypatch.context() as patched:
        fill(patched, number)
        assert read_blob(store.content, digest(data)) == data
        assert store.content.statuses() == []
    assert read_blob(store.content, digest(data)) == data


def test_another_error_of_the_cache_is_one_of_the_reader(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(monkeypatch, errno.EIO)
    for data in (LARGE, SMALL):
        with pytest.raises(OSError, match="full"):
            read_blob(store.content, digest(data))


def full(_: Database) -> None:
    raise OSError(errno.ENOSPC, "full")


def test_uses_that_cannot_be_saved_are_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    times = iter(range(0, 10_000, 100))
    with Sources(tmp_path, "host/", lambda: next(times)) as sources:
        with monkeypatch.context() as patched:
            patched.setattr(Database, "transaction", full)
            sources.use("a")
            assert sources.last_uses() == {"a": 100}
        sources.use("b")
        with Sources(tmp_path, "host/", lambda: 0) as others:
            assert others.last_uses() == {"a": 100, "b": 400}


def test_a_cache_that_is_full_can_be_closed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sources = Sources(tmp_path, "host/")
    sources.use("a")
    monkeypatch.setattr(Database, "transaction", full)
    sources.close()


def test_an_eviction_in_a_full_cache_fails_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "cache"
    with LocalStore.create(path) as cache, Sources(path, "host/") as sources:
        write_blob(cache.content, digest(LARGE), LARGE)
        sources.add([Source(digest(LARGE), "host/app", len(LARGE), is_manifest=False)])
        eviction = Eviction(cache.content, sources, 1)
        with monkeypatch.context() as patched:
            patched.setattr(Database, "transaction", full)
            eviction.run()
        assert cache.content.exists(digest(LARGE))
        eviction.run()
        assert not cache.content.exists(digest(LARGE))

"""Databases of a cache that are damaged, lost or repaired: the registry has what they held."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from engine.content.blobs import read_blob
from engine.image import Summary
from engine.progress import ignore
from engine.stores.local.fsck import check
from engine.stores.local.fsck.problem import Kind
from engine.stores.local.fsck.repair import repair
from engine.stores.local.fsck.replacement import replace_database, restore_names
from engine.stores.local.store import LocalStore
from engine.stores.open import open_store
from engine.stores.protocols import Store
from engine.stores.registry.sources import Source, Sources
from tests.archives import ImageParts, digest, layer
from tests.stores.registry.memory_registry import MemoryRegistry, memory_registry

IMAGE = ImageParts(layers=(layer("large", bytes(range(256)) * 4096), layer("small")))


@pytest.fixture
def registry() -> Iterator[MemoryRegistry]:
    with memory_registry() as running:
        running.put("app", "1", IMAGE)
        yield running


@pytest.fixture
def cache(registry: MemoryRegistry, tmp_path: Path) -> Path:
    """Return a cache that knows an image, and has nothing of its layers."""
    with opened(registry, tmp_path / "cache") as store:
        store.images.get("app:1")
    return tmp_path / "cache"


def opened(registry: MemoryRegistry, cache: Path) -> Store:
    return open_store(f"registry://{registry.host}?cache={cache}")


def is_whole(store: Store) -> bool:
    """Return whether the image has all that the registry has of it."""
    target = store.images.get("app:1").target.digest
    (manifest,) = store.images.manifests(target)
    assert store.images.summary(target).missing == ()
    return manifest.config == digest(IMAGE.config) and all(
        read_blob(store.content, digest(data)) == data for data in IMAGE.layers
    )


def garbage(path: Path) -> None:
    path.write_bytes(b"garbage" * 1000)


def rotten(path: Path) -> None:
    """Damage all pages but the first."""
    data = path.read_bytes()
    assert len(data) > 4096
    path.write_bytes(data[:4096] + bytes(len(data) - 4096))


def empty(path: Path) -> None:
    path.write_bytes(b"")


@pytest.mark.parametrize("damage", [garbage, rotten, empty, Path.unlink])
def test_the_places_of_blobs_are_learnt_again(
    registry: MemoryRegistry, cache: Path, damage: Callable[[Path], None]
) -> None:
    damage(cache / "registry.db")
    with opened(registry, cache) as store:
        assert is_whole(store)


def test_the_database_of_a_store_in_use_is_removed(registry: MemoryRegistry, cache: Path) -> None:
    with opened(registry, cache) as store:
        assert store.images.get("app:1")
        for file in cache.glob("registry.db*"):
            file.unlink()
        registry.put("app", "2", IMAGE)
        assert store.images.get("app:2")
        assert is_whole(store)


def source(name: str) -> Source:
    return Source(name, "host/app", 1, is_manifest=False)


def in_thread(sources: Sources, name: str) -> list[Source]:
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(sources.find, name).result()


def test_all_threads_turn_to_the_new_database(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with Sources(tmp_path, "host/") as sources:
        sources.add([source("old")])
        garbage(tmp_path / "registry.db")
        (tmp_path / "registry.db-wal").write_bytes(b"")
        assert in_thread(sources, "old") == []
        sources.add([source("new")])
        for find in (Sources.find, in_thread):
            assert find(sources, "old") == []
            assert find(sources, "new") == [source("new")]
    assert caplog.messages == [f"{tmp_path}/registry.db was damaged, and is made anew"]


def test_a_database_that_another_process_has_made_anew_stays(tmp_path: Path) -> None:
    many = [f"{n:04}" * 50 for n in range(3000)]  # more than a connection keeps in memory
    with Sources(tmp_path, "host/") as sources:
        sources.add(map(source, many))
    with Sources(tmp_path, "host/") as sources:
        assert sources.find(many[0])
        garbage(tmp_path / "registry.db")
        with Sources(tmp_path, "host/") as others:
            others.add([source("theirs")])
            assert sources.sizes(["theirs", *many]) == {"theirs": 1}
            sources.add([source("ours")])
            assert others.sizes(["theirs", "ours"]) == {"theirs": 1, "ours": 1}


def repaired(cache: Path) -> list[Kind]:
    """Repair a cache; return the kinds of its problems."""
    with LocalStore.open(cache) as store:
        problems = []
        for problem in check(store, ignore):
            assert repair(store, problem)
            problems.append(problem.kind)
        restore_names(store)
        return problems


def test_what_only_the_registry_has_is_no_problem(registry: MemoryRegistry, cache: Path) -> None:
    assert repaired(cache) == []
    with opened(registry, cache) as store:
        assert is_whole(store)
    assert repaired(cache) == []


@pytest.mark.parametrize("data", [IMAGE.manifest(), IMAGE.config, IMAGE.layers[0]])
def test_a_damaged_blob_is_fetched_again(
    registry: MemoryRegistry, cache: Path, data: bytes
) -> None:
    with opened(registry, cache) as store:
        assert is_whole(store)
    (blob,) = cache.glob(f"blobs/*/{digest(data).partition(':')[2]}")
    blob.chmod(0o600)
    blob.write_bytes(bytes(len(data)))
    blob.chmod(0o400)
    assert Kind.DAMAGED in repaired(cache)
    with opened(registry, cache) as store:
        assert is_whole(store)


def test_a_database_that_a_repair_has_made_anew_costs_no_image_anything(
    registry: MemoryRegistry, cache: Path
) -> None:
    replace_database(cache)
    assert repaired(cache)
    with LocalStore.open(cache) as store:
        assert [image.name for image in store.images.all()] == [f"{registry.host}/app:1"]
    with opened(registry, cache) as remote:
        assert is_whole(remote)


def test_a_wrong_record_of_what_the_cache_has_whole(registry: MemoryRegistry, cache: Path) -> None:
    with opened(registry, cache) as store:
        assert is_whole(store)
    with LocalStore.open(cache) as local:
        local.images.record(digest(IMAGE.manifest()), Summary(0, (), (), ()))
    assert repaired(cache) == [Kind.RECORD]
    assert repaired(cache) == []

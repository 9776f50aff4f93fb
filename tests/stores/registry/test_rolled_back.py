"""Look-ups in a transaction that is rolled back: what they have kept goes, and is asked again."""

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from engine.stores.open import open_store
from engine.stores.protocols import Store
from tests.archives import ImageParts, digest, layer
from tests.stores.registry.memory_registry import MemoryRegistry, memory_registry

OLD, NEW = ImageParts(), ImageParts(layers=(layer("new"),))


class GivenUp(Exception):
    """The end of a transaction that changes nothing."""


@pytest.fixture
def registry() -> Iterator[MemoryRegistry]:
    with memory_registry() as running:
        running.put("app", "1", OLD)
        yield running


@pytest.fixture
def store(registry: MemoryRegistry, tmp_path: Path) -> Iterator[Store]:
    with open_store(f"registry://{registry.host}?cache={tmp_path}/cache") as opened:
        yield opened


def target(store: Store) -> str | None:
    """Return what app:1 stands for."""
    found = store.images.find("app:1")
    return found.target.digest if found else None


def look_up_and_give_up(store: Store) -> None:
    with suppress(GivenUp), store.transaction():
        target(store)
        raise GivenUp


def test_a_name_that_was_new(store: Store) -> None:
    look_up_and_give_up(store)
    assert target(store) == digest(OLD.manifest())


def test_a_name_that_was_new_to_a_part_of_a_transaction(store: Store) -> None:
    with store.transaction():
        look_up_and_give_up(store)
        assert target(store) == digest(OLD.manifest())
    assert target(store) == digest(OLD.manifest())


def look_up_elsewhere(store: Store) -> None:
    """Have the cache know the name, which this store has not asked for."""
    with open_store(store.location) as other:
        assert target(other) == digest(OLD.manifest())


def test_a_name_that_had_moved(registry: MemoryRegistry, store: Store) -> None:
    look_up_elsewhere(store)
    registry.put("app", "1", NEW)
    look_up_and_give_up(store)
    assert target(store) == digest(NEW.manifest())


def test_a_name_that_was_gone(registry: MemoryRegistry, store: Store) -> None:
    look_up_elsewhere(store)
    del registry.answers["/v2/app/manifests/1"]
    look_up_and_give_up(store)
    assert target(store) is None


def test_a_name_as_it_was_known_is_not_asked_for_again(
    registry: MemoryRegistry, store: Store
) -> None:
    look_up_elsewhere(store)
    look_up_and_give_up(store)
    registry.seen.clear()
    assert target(store) == digest(OLD.manifest())
    assert registry.seen == []

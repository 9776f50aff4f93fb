"""Lists of names of which one cannot be shown."""

import logging
from collections.abc import Iterator
from pathlib import Path

import pytest

from engine.errors import AccessDenied, EngineError, InvalidInput, Unreachable
from engine.stores.open import open_store
from engine.stores.protocols import Store
from engine.stores.registry.client import Client
from engine.stores.registry.location import parse_location
from engine.stores.registry.store import RegistryStore
from tests.archives import ImageParts, to_json
from tests.stores.registry.memory_registry import MemoryRegistry, memory_registry

SCHEMA_1 = to_json({"schemaVersion": 1, "name": "a/good", "tag": "old", "fsLayers": []})


@pytest.fixture
def registry() -> Iterator[MemoryRegistry]:
    """Run a registry with the images a/good:1, a/bad:1 and a/below/it:1."""
    with memory_registry() as running:
        for repository in ("a/good", "a/bad", "a/below/it"):
            running.put(repository, "1", ImageParts())
        yield running


@pytest.fixture
def store(registry: MemoryRegistry, tmp_path: Path) -> Iterator[Store]:
    with open_store(f"registry://{registry.host}?cache={tmp_path}/cache") as opened:
        yield opened


def deny(registry: MemoryRegistry, *repositories: str) -> None:
    for repository in repositories:
        registry.statuses[f"/v2/{repository}/tags/list"] = 403


def listed(store: Store, prefix: str) -> list[str]:
    return [name for name, _ in store.images.listed(f"{store.images.domain}/{prefix}")]


def names(store: Store, repository: str = "") -> list[str]:
    full = repository and f"{store.images.domain}/{repository}"
    return [image.name.partition("/")[2] for image in store.images.all(full)]


@pytest.mark.parametrize("broken", [None, b"no JSON"], ids=["denied", "no JSON"])
def test_a_list_goes_on_without_a_repository(
    registry: MemoryRegistry, store: Store, caplog: pytest.LogCaptureFixture, broken: bytes | None
) -> None:
    if broken:
        registry.answers["/v2/a/bad/tags/list"] = broken
    else:
        deny(registry, "a/bad")
    for _ in range(2):
        assert listed(store, "a/") == ["below", "good:1"]
        assert names(store) == ["a/below/it:1", "a/good:1"]
    assert [record.levelno for record in caplog.records] == [logging.WARNING]
    assert f"{registry.host}/a/bad is not listed: " in caplog.text


def test_a_repository_itself_says_that_it_is_denied(registry: MemoryRegistry, store: Store) -> None:
    deny(registry, "a/bad")
    full = f"{registry.host}/a/bad"
    with pytest.raises(AccessDenied):
        store.images.all(full)
    with pytest.raises(AccessDenied):
        store.images.has_paths(f"{full}:")
    with pytest.raises(AccessDenied):
        list(store.images.places(f"{full}:"))


def test_a_list_of_which_everything_is_denied_is_denied(
    registry: MemoryRegistry, store: Store
) -> None:
    deny(registry, "a/bad", "a/good")
    assert listed(store, "a/") == ["below"]
    deny(registry, "a/below/it")
    with pytest.raises(AccessDenied):
        listed(store, "a/below/")
    with pytest.raises(AccessDenied):
        names(store)


@pytest.mark.parametrize(
    ("manifest", "status", "error"),
    [
        (SCHEMA_1, 200, InvalidInput),
        (b"no JSON", 200, InvalidInput),
        (b" " * (33 << 20), 200, EngineError),
        (b"{}", 403, AccessDenied),
        (b"{}", 400, EngineError),
    ],
    ids=["schema 1", "no JSON", "large", "denied", "refused"],
)
def test_a_list_goes_on_without_an_image(
    registry: MemoryRegistry,
    store: Store,
    caplog: pytest.LogCaptureFixture,
    manifest: bytes,
    status: int,
    error: type[EngineError],
) -> None:
    registry.put_manifest("a/good", "old", manifest)
    registry.statuses["/v2/a/good/manifests/old"] = status
    for _ in range(2):
        assert names(store, "a/good") == ["a/good:1"]
        assert names(store) == ["a/bad:1", "a/below/it:1", "a/good:1"]
    assert [record.levelno for record in caplog.records] == [logging.WARNING]
    assert "good:1" in listed(store, "a/")
    with pytest.raises(error):
        store.images.get(f"{registry.host}/a/good:old")


def test_a_registry_that_fails_is_an_error_of_the_list(
    registry: MemoryRegistry, tmp_path: Path
) -> None:
    location = parse_location(f"registry://{registry.host}?cache={tmp_path}/cache")
    registry.statuses["/v2/a/good/manifests/1"] = 503
    with (
        RegistryStore(location, Client(location, lambda _: None)) as store,
        pytest.raises(Unreachable),
    ):
        names(store)


@pytest.fixture
def impatient(registry: MemoryRegistry, tmp_path: Path) -> Iterator[Store]:
    """Open a store that does not wait before it repeats a request."""
    location = parse_location(f"registry://{registry.host}?cache={tmp_path}/cache")
    with RegistryStore(location, Client(location, lambda _: None)) as opened:
        yield opened


@pytest.mark.parametrize("status", [404, 405, 503])
def test_names_that_were_looked_up_are_listed_where_the_registry_does_not_list_them(
    registry: MemoryRegistry, impatient: Store, status: int
) -> None:
    name = f"{registry.host}/a/good:1"
    registry.statuses["/v2/a/good/tags/list"] = status
    assert names(impatient, "a/good") == []
    assert impatient.images.find(name) is not None
    assert names(impatient, "a/good") == ["a/good:1"]
    assert listed(impatient, "a/") == ["bad:1", "below", "good:1"]
    assert impatient.images.has_paths(f"{registry.host}/a/good:")


@pytest.mark.parametrize("status", [404, 405])
def test_names_that_are_gone_are_not_listed_where_the_registry_does_not_list_them(
    registry: MemoryRegistry, impatient: Store, status: int, tmp_path: Path
) -> None:
    assert impatient.images.find(f"{registry.host}/a/good:1") is not None
    registry.statuses["/v2/a/good/manifests/1"] = 404
    registry.statuses["/v2/a/good/tags/list"] = status
    with open_store(f"registry://{registry.host}?cache={tmp_path}/cache") as other:
        assert listed(other, "a/") == ["bad:1", "below"]


@pytest.mark.parametrize("path", ["bad:x", "bad:1", "bad@sha256:" + 64 * "0", "Bad", "b/../d", ""])
def test_a_repository_whose_name_is_none_is_left_out(
    registry: MemoryRegistry, store: Store, path: str
) -> None:
    registry.answers["/v2/_catalog"] = to_json({"repositories": ["a/good", path]})
    assert listed(store, "a/") == ["good:1"]
    assert listed(store, "") == ["a"]
    assert names(store) == ["a/good:1"]


def test_a_list_ends_with_the_first_error_that_concerns_all_of_it(
    registry: MemoryRegistry, impatient: Store
) -> None:
    for number in range(40):
        registry.put("a/good", f"n{number}", ImageParts())
        registry.statuses[f"/v2/a/good/manifests/n{number}"] = 503
    with pytest.raises(Unreachable):
        names(impatient, "a/good")
    asked = {path for path in registry.seen if "/manifests/n" in path}
    assert len(asked) <= 8, "no more than are asked for at once"

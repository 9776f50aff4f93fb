"""Blobs that several repositories have, or are said to have."""

import json
from collections.abc import Iterator
from contextlib import suppress
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pytest

from engine.content.blobs import read_blob
from engine.errors import AccessDenied, NotFound, SizeMismatch
from engine.stores.open import open_store
from engine.stores.protocols import Store
from engine.stores.registry.content import RegistryContent
from tests.archives import OCI_CONFIG, ImageParts, descriptor, digest, layer, to_json
from tests.stores.registry.memory_registry import MemoryRegistry, memory_registry

SHARED = layer("shared", bytes(range(256)) * 4096)
SMALL = layer("small")
LARGE = digest(SHARED)
FIRST, SECOND = (
    ImageParts(layers=(SHARED, SMALL), extra={"author": author}) for author in ("first", "second")
)


@pytest.fixture
def registry() -> Iterator[MemoryRegistry]:
    """Run a registry with two repositories that share their layers."""
    with memory_registry() as running:
        running.put("a/x", "1", FIRST)
        running.put("b/y", "1", SECOND)
        yield running


@pytest.fixture
def store(registry: MemoryRegistry, tmp_path: Path) -> Iterator[Store]:
    with open_store(f"registry://{registry.host}?cache={tmp_path}/cache") as opened:
        yield opened


def look_up(store: Store, *names: str) -> None:
    for name in names:
        store.images.get(f"{store.images.domain}/{name}")


def refuse(registry: MemoryRegistry, repository: str, status: int) -> None:
    for path in registry.answers:
        if path.startswith(f"/v2/{repository}/"):
            registry.statuses[path] = status


@pytest.mark.parametrize("status", [403, 404])
@pytest.mark.parametrize("data", [SHARED, SMALL], ids=["large", "small"])
def test_a_layer_is_read_from_the_other_repository(
    registry: MemoryRegistry, store: Store, status: int, data: bytes
) -> None:
    look_up(store, "a/x:1", "b/y:1")
    refuse(registry, "a/x", status)
    assert read_blob(store.content, digest(data)) == data


@pytest.mark.parametrize("status", [403, 404])
def test_a_range_is_read_from_the_other_repository(
    registry: MemoryRegistry, store: Store, status: int
) -> None:
    look_up(store, "a/x:1", "b/y:1")
    refuse(registry, "a/x", status)
    with store.content.open_for_parts(LARGE) as reader:
        assert reader.pread(10, 5000) == SHARED[5000:5010]
        assert reader.pread(10, len(SHARED) - 10) == SHARED[-10:]
    assert registry.seen.count(f"/v2/a/x/blobs/{LARGE}") == 1


def test_a_repository_that_is_known_later_is_asked_too(
    registry: MemoryRegistry, store: Store
) -> None:
    look_up(store, "a/x:1")
    with store.content.open_for_parts(LARGE) as reader:
        look_up(store, "b/y:1")
        refuse(registry, "a/x", 404)
        assert reader.pread(10, 5000) == SHARED[5000:5010]
    assert read_blob(store.content, LARGE) == SHARED


def test_wrong_bytes_are_replaced_by_those_of_the_other_repository(
    registry: MemoryRegistry, store: Store
) -> None:
    look_up(store, "a/x:1", "b/y:1")
    registry.answers[f"/v2/a/x/blobs/{LARGE}"] = bytes(len(SHARED))
    registry.answers[f"/v2/a/x/blobs/{digest(SMALL)}"] = bytes(len(SMALL))
    for data in (SHARED, SMALL):
        assert read_blob(store.content, digest(data)) == data


def test_a_layer_that_no_repository_has_comes_back(registry: MemoryRegistry, store: Store) -> None:
    look_up(store, "a/x:1", "b/y:1")
    for status, error in ((404, NotFound), (403, AccessDenied)):
        for repository in ("a/x", "b/y"):
            refuse(registry, repository, status)
        with pytest.raises(error):
            read_blob(store.content, LARGE)
    registry.statuses.clear()
    assert read_blob(store.content, LARGE) == SHARED


@pytest.fixture(params=[len(SHARED) // 2, len(SHARED) + 1, 10], ids=["half", "more", "small"])
def wrong(request: pytest.FixtureRequest, registry: MemoryRegistry) -> None:
    """Add the image a/wrong:1, which states another size of the shared layer."""
    manifest = json.loads(FIRST.manifest())
    manifest["config"] = descriptor(FIRST.config, OCI_CONFIG)
    manifest["layers"][0]["size"] = request.param
    registry.put("a/wrong", "0", FIRST)
    registry.put_manifest("a/wrong", "1", to_json(manifest))


@pytest.mark.usefixtures("wrong")
def test_a_wrong_size_is_replaced_by_the_right_one(store: Store) -> None:
    look_up(store, "a/wrong:1")
    store.content.open_for_parts(LARGE).close()
    look_up(store, "b/y:1")
    assert store.content.sizes([LARGE]) == {LARGE: len(SHARED)}
    assert read_blob(store.content, LARGE) == SHARED


@pytest.mark.usefixtures("wrong")
def test_a_wrong_size_does_not_replace_the_right_one(store: Store) -> None:
    look_up(store, "b/y:1")
    with pytest.raises(SizeMismatch, match=LARGE):
        look_up(store, "a/wrong:1")
    assert store.content.sizes([LARGE]) == {LARGE: len(SHARED)}
    assert read_blob(store.content, LARGE) == SHARED


@pytest.mark.usefixtures("wrong")
def test_a_store_of_another_namespace_may_have_noted_a_wrong_size(
    registry: MemoryRegistry, tmp_path: Path
) -> None:
    with open_store(f"registry://{registry.host}/a?cache={tmp_path}/cache") as store:
        store.images.get(f"{registry.host}/a/wrong:1")
    with open_store(f"registry://{registry.host}/b?cache={tmp_path}/cache") as store:
        store.images.get(f"{registry.host}/b/y:1")
    with open_store(f"registry://{registry.host}?cache={tmp_path}/cache") as store:
        assert read_blob(store.content, LARGE) == SHARED


@pytest.mark.usefixtures("wrong")
def test_sources_stay_where_the_registry_tells_no_size(
    registry: MemoryRegistry, store: Store
) -> None:
    def send_without_length(handler: BaseHTTPRequestHandler, data: bytes) -> None:
        handler.send_response(200)
        handler.send_header("Connection", "close")
        handler.end_headers()
        handler.wfile.write(data)

    registry.handlers[f"/v2/b/y/blobs/{LARGE}"] = send_without_length
    content = store.content
    assert isinstance(content, RegistryContent)
    look_up(store, "a/wrong:1")
    with suppress(SizeMismatch):  # the size that is noted may be the wrong one
        look_up(store, "b/y:1")
    assert content.repositories(LARGE) == ["a/wrong", "b/y"]

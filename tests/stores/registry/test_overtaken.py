"""Answers of a registry that come after a change that they do not know of."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from engine.names import remove
from engine.stores.open import open_store
from engine.stores.protocols import Store
from tests.archives import ImageParts, digest, layer, oci_archive
from tests.stores.containerd.loads import load
from tests.stores.registry.clients import FaultyClient
from tests.stores.registry.server import lacking, registry

OLD, NEW = ImageParts(), ImageParts(layers=(layer("new"),))


@pytest.fixture
def client(tmp_path: Path) -> Iterator[FaultyClient]:
    if reason := lacking():
        pytest.skip(reason)
    (tmp_path / "registry").mkdir()
    with registry(tmp_path / "registry") as host:
        yield FaultyClient(host, tmp_path / "cache")


@pytest.fixture
def store(client: FaultyClient) -> Iterator[Store]:
    with client.store() as opened:
        yield opened


@pytest.fixture(params=["same process", "other process"])
def writer(request: pytest.FixtureRequest, store: Store, client: FaultyClient) -> Iterator[Store]:
    """Return what changes names: the store, or another one that has the same cache."""
    if request.param == "same process":
        yield store
    else:
        with open_store(client.location.url) as other:
            yield other


def put(store: Store, image: ImageParts, tag: str = "1") -> None:
    load(store, oci_archive((image, f"docker.io/library/app:{tag}")))


def push(client: FaultyClient, image: ImageParts) -> None:
    """Push an image from another machine."""
    with open_store(f"registry://{client.location.host}?cache={client.location.cache}2") as other:
        put(other, image)


def test_a_look_up_drops_no_name_that_was_loaded_meanwhile(
    client: FaultyClient, store: Store, writer: Store
) -> None:
    name = f"{client.location.host}/app:1"
    client.held = ("GET", "/manifests/1")
    with ThreadPoolExecutor(1) as thread:
        looking = thread.submit(store.images.find, name)
        assert client.has_answer.wait(30)
        put(writer, NEW)
        client.released.set()
        found = looking.result()
    assert found is not None
    assert store.images.get(name).target.digest == digest(NEW.manifest())


@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_a_look_up_gives_back_no_target_that_a_load_has_replaced(
    client: FaultyClient, store: Store, writer: Store, method: str
) -> None:
    name = f"{client.location.host}/app:1"
    push(client, OLD)
    if method == "HEAD":  # it is asked for a name that is in the cache
        with open_store(client.location.url) as other:
            other.images.get(name)
    client.held = (method, "/manifests/1")
    with ThreadPoolExecutor(1) as thread:
        looking = thread.submit(store.images.find, name)
        assert client.has_answer.wait(30)
        put(writer, NEW)
        client.released.set()
        looking.result()
    assert store.images.get(name).target.digest == digest(NEW.manifest())


def test_a_look_up_brings_back_no_name_that_was_removed(
    client: FaultyClient, store: Store, writer: Store
) -> None:
    name = f"{client.location.host}/app:1"
    push(client, OLD)
    client.held = ("GET", "/manifests/1")
    with ThreadPoolExecutor(1) as thread:
        looking = thread.submit(store.images.find, name)
        assert client.has_answer.wait(30)
        remove(writer, name)
        client.released.set()
        looking.result()
    assert store.images.find(name) is None


def test_a_list_hides_no_name_that_was_loaded_meanwhile(
    client: FaultyClient, store: Store, writer: Store
) -> None:
    host = client.location.host
    push(client, OLD)
    client.held = ("GET", "/tags/list")
    with ThreadPoolExecutor(1) as thread:
        listing = thread.submit(lambda: list(store.images.listed(f"{host}/")))
        assert client.has_answer.wait(30)
        put(writer, NEW, "2")
        client.released.set()
        listing.result()
    assert [name for name, _ in store.images.listed(f"{host}/")] == ["app:1", "app:2"]


def test_a_list_of_repositories_hides_no_repository_that_was_loaded_meanwhile(
    client: FaultyClient, store: Store, writer: Store
) -> None:
    host = client.location.host
    client.held = ("GET", "/_catalog")
    with ThreadPoolExecutor(1) as thread:
        listing = thread.submit(lambda: list(store.images.listed(f"{host}/")))
        assert client.has_answer.wait(30)
        put(writer, NEW)
        client.released.set()
        listing.result()
    assert [name for name, _ in store.images.listed(f"{host}/")] == ["app:1"]
    assert store.images.has_paths(f"{host}/app:")


def test_a_list_shows_at_once_what_another_process_has_changed(
    client: FaultyClient, store: Store
) -> None:
    host = client.location.host
    put(store, OLD)

    def listed() -> list[str]:
        return [name for name, _ in store.images.listed(f"{host}/")]

    assert listed() == ["app:1"]
    with open_store(client.location.url) as other:
        put(other, NEW, "2")
        assert listed() == ["app:1", "app:2"]
        remove(other, "app:1")
        assert listed() == ["app:2"]
        put(other, NEW, "3")
        assert listed() == ["app:2", "app:3"]

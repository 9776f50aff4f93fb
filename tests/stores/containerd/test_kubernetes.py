"""Kubernetes has what is loaded into its namespace: the CRI of a containerd lists it."""

from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest

from engine import names
from engine.spec import digest as digests
from engine.stores.containerd.location import KUBERNETES
from engine.stores.open import create_store
from engine.stores.protocols import Store
from imgfs.vfs.name_changes import NameChanges
from tests.stores.containerd.loads import APP, NAME, OTHER, listed, load
from tests.stores.containerd.server import Server, lacking, running
from tests.waiting import wait_until

ID = digests.of_bytes(APP.config)
"""The image ID by which the CRI names the image as well."""


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    """Return a containerd with its CRI."""
    if reason := lacking():
        pytest.skip(reason)
    with running(tmp_path / "c", disabled=()) as server:
        yield server


@pytest.fixture
def store(server: Server) -> Iterator[Store]:
    with create_store(server.url(KUBERNETES)) as store:
        yield store


@pytest.fixture
def pulled(server: Server, store: Store) -> Store:
    """Return a store with an image by the three names that it has after a pull by the CRI."""
    load(store)
    target = store.images.get(NAME).target.digest
    for name in (f"docker.io/library/app@{target}", ID):
        server.ctr(KUBERNETES, "images", "tag", NAME, name)
    wait_until(lambda: target in listed_by_cri(server), "the CRI lists the digest")
    return store


def stored(server: Server) -> list[str]:
    return server.ctr(KUBERNETES, "images", "ls", "-q").split()


def test_the_cri_has_what_is_loaded(server: Server, store: Store) -> None:
    load(store)
    wait_until(lambda: NAME in listed_by_cri(server), "the CRI lists the image")
    found = server.ctr(KUBERNETES, "images", "ls", 'labels."io.cri-containerd.image"==managed')
    assert NAME in found
    assert listed(store) == [NAME]
    names.remove(store, "app:1")
    wait_until(lambda: listed_by_cri(server) == "", "the CRI lists nothing")
    assert stored(server) == []


def test_what_the_cri_has_pulled_is_removed(server: Server, pulled: Store) -> None:
    assert listed(pulled) == [NAME]
    names.remove(pulled, "app:1")
    assert listed(pulled) == []
    assert stored(server) == []
    wait_until(lambda: listed_by_cri(server) == "", "the CRI lists nothing")
    server.collect(KUBERNETES)
    assert server.stored(KUBERNETES) == set()


def test_the_digest_of_a_repository_goes_with_its_last_tag(server: Server, pulled: Store) -> None:
    target = pulled.images.get(NAME).target.digest
    digest = f"docker.io/library/app@{target}"
    for name in ("app:2", OTHER):
        names.tag(pulled, "app:1", name)
    names.remove(pulled, "app:1")
    assert stored(server) == ["docker.io/library/app:2", digest, OTHER, ID]
    NameChanges(pulled).rename("app:2", "team/app:3")
    assert stored(server) == ["docker.io/team/app:3", OTHER, ID]
    server.ctr(KUBERNETES, "images", "tag", OTHER, f"ghcr.io/org/app@{target}")
    names.remove(pulled, target)
    assert stored(server) == []


def test_a_removed_directory_leaves_the_digest(server: Server, pulled: Store) -> None:
    digest = f"docker.io/library/app@{pulled.images.get(NAME).target.digest}"
    NameChanges(pulled).remove("app:1")
    assert listed(pulled) == [digest]
    assert stored(server) == [digest, ID]
    names.remove(pulled, digest)
    assert stored(server) == []


def listed_by_cri(server: Server) -> str:
    """Return the answer of the CRI to ListImages, whose texts are readable in its bytes."""
    options = [("grpc.default_authority", "localhost")]
    with grpc.insecure_channel(f"unix:{server.socket}", options=options) as channel:
        images = channel.unary_unary("/runtime.v1.ImageService/ListImages")
        try:
            answer: bytes = images(b"", timeout=60, wait_for_ready=True)
        except grpc.RpcError as error:
            if error.code() == grpc.StatusCode.UNIMPLEMENTED:
                pytest.skip("this containerd has no CRI")
            raise
    return answer.decode(errors="replace")

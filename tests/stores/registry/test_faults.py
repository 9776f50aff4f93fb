"""Answers of a registry that break off, lie or make the client wait."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from engine.archive.import_options import ImportOptions
from engine.archive.importer import Import
from engine.content.blobs import read_blob
from engine.errors import DigestMismatch, Unreachable
from engine.stores.protocols import Store
from engine.stores.registry.client import Client
from engine.stores.registry.location import parse_location
from engine.stores.registry.store import RegistryStore
from tests.archives import ImageParts, digest, layer, oci_archive
from tests.stores.registry.proxy import BLOB, Proxy, proxy
from tests.stores.registry.server import lacking, load_into, registry

IMAGE = ImageParts(layers=(layer("large", bytes(range(256)) * 4096),))
LARGE = IMAGE.layers[0]
OF_LARGE = f"{BLOB}:{digest(LARGE)[7:]}"
WAIT = 7
"""Seconds that the proxy asks for by Retry-After."""


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Run a registry that has one image."""
    if reason := lacking():
        pytest.skip(reason)
    directory = tmp_path_factory.mktemp("registry")
    with registry(directory) as running:
        load_into(f"registry://{running}?cache={directory}/cache", IMAGE)
        yield running


@pytest.fixture
def before(host: str) -> Iterator[Proxy]:
    with proxy(host) as running:
        running.faulty = OF_LARGE
        yield running


@pytest.fixture
def waits() -> list[float]:
    """Return the seconds that the store has waited between its requests, which take none."""
    return []


@pytest.fixture
def store(before: Proxy, tmp_path: Path, waits: list[float]) -> Iterator[Store]:
    """Open a store that knows the image, and has nothing of its layer."""
    location = parse_location(f"registry://{before.host}?cache={tmp_path}/cache")
    with RegistryStore(location, Client(location, waits.append)) as opened:
        assert opened.images.place_at("app:1") is not None
        yield opened


@pytest.mark.parametrize(
    ("faults", "ranges"),
    [
        ([], 0),
        (["reset at once"], 0),
        (["reset"], 1),
        (["cut"], 1),
        (["cut", "cut", "reset"], 3),
        (["short"], 1),
        (["cut", "ignores ranges"], 1),
        (["cut", "wrong range"], 2),
        (["cut", "401"], 1),
        (["401"], 0),
        (["429", "429"], 0),
        (["429 until a date"], 0),
        (["500", "503"], 0),
        (["cut", "503"], 1),
        (["wrong"], 0),
    ],
    ids=json.dumps,
)
def test_the_blob_comes_whole(store: Store, before: Proxy, faults: list[str], ranges: int) -> None:
    before.faults = [*faults]
    assert read_blob(store.content, digest(LARGE)) == LARGE
    assert before.faults == []
    asked = [each.span for each in before.matching(OF_LARGE) if each.status < 300]
    assert sum(bool(span) for span in asked) == ranges
    assert read_blob(store.content, digest(LARGE)) == LARGE
    assert len(asked) == len([e for e in before.matching(OF_LARGE) if e.status < 300])


@pytest.mark.parametrize("fault", ["429", "503"])
def test_a_registry_says_how_long_to_wait(
    store: Store, before: Proxy, waits: list[float], fault: str
) -> None:
    before.faults = [fault, fault]
    assert read_blob(store.content, digest(LARGE)) == LARGE
    assert waits == [WAIT, WAIT]


@pytest.mark.parametrize("fault", ["reset at once", "503", "429"])
def test_a_fault_that_stays_is_an_error(store: Store, before: Proxy, fault: str) -> None:
    before.faults = [fault] * 100
    with pytest.raises(Unreachable) as caught:
        read_blob(store.content, digest(LARGE))
    assert "\n" not in str(caught.value)
    before.faults = []
    assert read_blob(store.content, digest(LARGE)) == LARGE


def test_wrong_bytes_are_never_a_blob(store: Store, before: Proxy) -> None:
    before.faults = ["wrong"] * 4
    with pytest.raises(DigestMismatch):
        read_blob(store.content, digest(LARGE))
    assert digest(LARGE) not in [info.digest for info in store.content.walk()]


def test_a_slow_answer_is_served_as_it_comes(store: Store, before: Proxy) -> None:
    before.faults = ["held"]
    with store.content.open(digest(LARGE)) as reader:
        assert reader.pread(4096, 0) == LARGE[:4096]
        before.released.set()
        assert reader.pread(len(LARGE), 0) == LARGE


@pytest.mark.parametrize("fault", ["reset at once", "500", "401", "429"])
@pytest.mark.parametrize("what", ["HEAD .*/blobs", "POST", "PUT .*blobs", "PUT .*manif"])
def test_a_push_survives_a_fault(store: Store, before: Proxy, fault: str, what: str) -> None:
    image = ImageParts(layers=(layer(fault, what.encode() * 100_000),))
    name = f"docker.io/library/pushed:{digest(image.config)[7:]}"
    before.faulty, before.faults = what, [fault]
    with Import(store, ImportOptions()) as importing:
        importing.feed(oci_archive((image, name)))
        importing.finish()
    assert store.images.get(name).target.digest == digest(image.manifest())
    assert before.faults == []

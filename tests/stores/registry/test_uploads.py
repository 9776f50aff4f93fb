"""Large blobs are sent in pieces, which a registry may refuse or break off."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from engine.archive.import_options import ImportOptions
from engine.archive.importer import Import
from engine.content.blobs import read_blob
from engine.stores.registry.client import Client
from engine.stores.registry.location import parse_location
from engine.stores.registry.store import RegistryStore
from tests.archives import ImageParts, digest, layer, oci_archive
from tests.stores.registry.proxy import Proxy, proxy
from tests.stores.registry.server import lacking, registry

CHUNK = 16 << 20
"""Bytes of a piece."""
PIECES = "PATCH .*/blobs/uploads/"
LAST = "PUT .*/blobs/uploads/"


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    if reason := lacking():
        pytest.skip(reason)
    with registry(tmp_path_factory.mktemp("registry")) as running:
        yield running


@pytest.fixture
def before(host: str) -> Iterator[Proxy]:
    with proxy(host) as running:
        yield running


@pytest.mark.parametrize("fault", ["", "500", "429", "401", "reset at once", "reset"])
def test_pieces_of_16_mib(before: Proxy, tmp_path: Path, fault: str) -> None:
    image = ImageParts(layers=(layer(f"zeros {fault}", bytes(2 * CHUNK)),))
    before.faulty, before.faults = PIECES, [fault]
    location = parse_location(f"registry://{before.host}?cache={tmp_path}/cache")
    store = RegistryStore(location, Client(location, lambda _: None))
    with store, Import(store, ImportOptions()) as importing:
        importing.feed(oci_archive((image, "docker.io/library/app:1")))
        importing.finish()
    assert before.faults == []
    large = [each for each in before.matching(PIECES) if each.status == 202]
    assert len(large) in (2, 3)
    location = parse_location(f"registry://{before.host}?cache={tmp_path}/other")
    with RegistryStore(location) as other:
        assert other.images.get(f"{before.host}/app:1").target.digest == digest(image.manifest())
        assert read_blob(other.content, digest(image.layers[0]), limit=3 * CHUNK) == image.layers[0]

"""A store over a registry passes the suites."""

from collections.abc import Iterator
from itertools import count
from pathlib import Path

import pytest

from engine.content.tables import TableStore
from engine.spec.digest import of_bytes
from engine.stores.open import open_store
from engine.stores.protocols import ContentStore, ImageStore, Store
from engine.testing.blobs import write_blob
from engine.testing.content import ContentSuite
from engine.testing.images import BLOBS, ImageSuite
from engine.testing.tables import TableSuite
from tests.stores.registry.server import lacking, registry

_NUMBERS = count()


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    if reason := lacking():
        pytest.skip(reason)
    with registry(tmp_path_factory.mktemp("registry")) as running:
        yield running


@pytest.fixture
def opened(host: str, tmp_path: Path) -> Iterator[Store]:
    """Open an empty namespace of the registry, with a cache of its own."""
    with open_store(f"registry://{host}/test{next(_NUMBERS)}?cache={tmp_path}/cache") as store:
        yield store


class TestRegistryContent(ContentSuite):
    """The suite on blobs in the cache."""

    @pytest.fixture
    def store(self, opened: Store) -> ContentStore:
        return opened.content


class TestRegistryImages(ImageSuite):
    """The suite on names of a registry."""

    @pytest.fixture
    def images(self, opened: Store) -> ImageStore:
        for data in BLOBS.values():
            write_blob(opened.content, of_bytes(data), data)
        return opened.images


class TestRegistryTables(TableSuite):
    """The suite on tables of layers in the cache."""

    @pytest.fixture
    def tables(self, opened: Store) -> TableStore:
        return opened.tables

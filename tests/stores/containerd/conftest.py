"""A containerd for all tests here, and a namespace of its own for each."""

import itertools
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from engine.stores.containerd.api import Server as ServerApi
from engine.stores.open import create_store
from engine.stores.protocols import Store
from tests.stores.containerd.loads import ARCHIVE
from tests.stores.containerd.server import Server, lacking, running

_NUMBERS = itertools.count(1)


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    if reason := lacking():
        pytest.skip(reason)
    with running(tmp_path_factory.mktemp("containerd") / "c") as server:
        yield server


@pytest.fixture
def namespace() -> str:
    return f"test{next(_NUMBERS)}"


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Keep what imgfs remembers of a containerd among the files of the test."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def opened(server: Server, namespace: str) -> Iterator[Store]:
    """Return an empty store."""
    with create_store(server.url(namespace)) as store:
        yield store


@pytest.fixture
def remote(server: Server, namespace: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Store]:
    """Return an empty store that cannot read containerd's directories."""

    def exports(_server: ServerApi, _type: str, _id: str) -> Mapping[str, str]:
        return {}

    monkeypatch.setattr(ServerApi, "exports", exports)
    with create_store(server.url(namespace)) as store:
        yield store


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    path = tmp_path / "app.tar"
    path.write_bytes(ARCHIVE)
    return path


@pytest.fixture
def imported(server: Server, namespace: str, archive: Path, opened: Store) -> Store:
    """Return a store whose image was imported by ctr."""
    server.ctr(namespace, "images", "import", "--no-unpack", archive)
    server.collect(namespace)  # what ctr leaves: the index of the archive
    return opened

"""A store over a containerd passes the suites, also where it cannot read containerd's files."""

import pytest

from engine.content.tables import TableStore
from engine.stores.protocols import ContentStore, ImageStore, Store
from engine.testing.content import ContentSuite
from engine.testing.images import ImageSuite
from engine.testing.tables import TableSuite


class TestContainerdContent(ContentSuite):
    """The suite on blobs of a containerd."""

    @pytest.fixture
    def store(self, opened: Store) -> ContentStore:
        return opened.content


class TestRemoteContent(ContentSuite):
    """The suite on blobs that containerd reads and writes for us."""

    @pytest.fixture
    def store(self, remote: Store) -> ContentStore:
        return remote.content


class TestContainerdImages(ImageSuite):
    """The suite on names of a containerd."""

    @pytest.fixture
    def images(self, opened: Store) -> ImageStore:
        return opened.images


class TestRemoteImages(ImageSuite):
    """The suite on names whose changes only events tell of."""

    @pytest.fixture
    def images(self, remote: Store) -> ImageStore:
        return remote.images


class TestContainerdTables(TableSuite):
    """The suite on tables of layers of a containerd."""

    @pytest.fixture
    def tables(self, opened: Store) -> TableStore:
        return opened.tables

"""Stores in memory that cannot do everything."""

from collections.abc import Iterator
from contextlib import contextmanager

from engine.errors import StoreReadOnly, Unsupported
from engine.image import Image
from tests.stores.memory import MemoryImages, MemoryStore, Tables


class ReadOnlyStore(MemoryStore):
    """A store with the content of another one, which refuses every change."""

    supports_changes = False

    def __init__(self, other: MemoryStore) -> None:
        super().__init__(other.directory)
        self.tables = other.tables

    @contextmanager
    def transaction(self) -> Iterator[Tables]:
        with super().transaction() as tables:
            before = Tables(*(getattr(tables, f).copy() for f in tables.__struct_fields__))
            yield tables
            if tables != before:
                raise StoreReadOnly(self.location)


class UnlistedImages(MemoryImages):
    """Images that are found by their full names only."""

    supports_listing = False

    def all(self, repository: str = "") -> list[Image]:  # noqa: ARG002 (of no use here)
        raise Unsupported("memory://", "cannot list its images; give a full name")


class UnlistedStore(MemoryStore):
    """A store with the content of another one, which does not list its names."""

    def __init__(self, other: MemoryStore) -> None:
        super().__init__(other.directory)
        self.tables = other.tables
        self.images = UnlistedImages(self)

"""Tables that are stored ahead of their layers, and taken back when these are not published."""

import errno
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from engine.errors import NotFound
from engine.spec import digest as digests
from engine.stores.local import tables as local_tables
from engine.stores.local.store import LocalStore
from engine.stores.new_tables import new_tables
from engine.testing.blobs import write_blob

ONE, TWO = digests.of_bytes(b"one layer"), digests.of_bytes(b"two layers")


@pytest.fixture
def store(tmp_path: Path) -> Iterator[LocalStore]:
    with LocalStore.create(tmp_path / "store") as store:
        yield store


def broken(*_: object) -> None:
    raise OSError(errno.EIO, os.strerror(errno.EIO))


def fail(store: LocalStore) -> None:
    """Publish no layer."""
    with pytest.raises(NotFound), new_tables(store, [(ONE, b"one"), (TWO, b"two")]):
        raise NotFound("image", "app:1")


def test_the_tables_of_layers_that_are_not_published_are_removed(store: LocalStore) -> None:
    layer = write_blob(store.content, "test", b"one layer").info.digest
    fail(store)
    assert [found.digest for found in store.tables.files()] == [layer]


def test_a_table_whose_storing_fails_at_its_end_is_removed(
    store: LocalStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(local_tables, "sync_directory", broken)
    fail(store)
    assert list(store.tables.files()) == []


def test_tables_are_removed_when_the_making_of_another_is_interrupted(store: LocalStore) -> None:
    def made() -> Iterator[tuple[str, bytes]]:
        yield ONE, b"one"
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt), new_tables(store, made()):
        pytest.fail("the block has run")
    assert list(store.tables.files()) == []


def test_a_store_that_cannot_remove_tables_hides_no_error(
    store: LocalStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store.tables, "delete", broken)
    fail(store)

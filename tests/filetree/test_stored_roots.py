"""The root of an image is merged once, and kept in the store."""

import errno
from collections.abc import Iterator
from pathlib import Path

import pytest

from engine.filetree import stored_roots
from engine.filetree.stored_roots import root_table
from engine.filetree.tree_table import TreeTable
from engine.layers.layer import Layers
from engine.spec import digest as digests
from engine.spec.oci import Manifest
from engine.stores.local.store import LocalStore
from tests.filetree.layers import directory, file, layer, stored

MANIFEST = digests.of_bytes(b"a manifest")


@pytest.fixture
def store(tmp_path: Path) -> Iterator[LocalStore]:
    with LocalStore.create(tmp_path / "store") as store:
        yield store


def root(store: LocalStore, manifest: Manifest) -> TreeTable:
    layers = Layers(store.content, store.tables, store.directory)
    try:
        return root_table(layers, store.tables, MANIFEST, manifest)
    finally:
        layers.close()


def image(store: LocalStore) -> Manifest:
    return stored(store, [layer(directory("d"), file("d/a", "1")), layer(file("b", "2"))])


def never(*_: object) -> None:
    raise AssertionError("it was merged again")


def test_a_root_is_merged_once(store: LocalStore, monkeypatch: pytest.MonkeyPatch) -> None:
    manifest = image(store)
    made = root(store, manifest)
    monkeypatch.setattr(stored_roots, "merged_root", never)
    found = root(store, manifest)
    assert [found.names[node] for node in range(len(found))] == [b"", b"b", b"d", b"a"]
    assert found.shown == made.shown


@pytest.mark.parametrize("damage", [b"x", b"", None])
def test_a_root_is_merged_again_if_its_table_cannot_be_read(
    store: LocalStore, damage: bytes | None
) -> None:
    manifest = image(store)
    made = root(store, manifest)
    data = store.tables.get(MANIFEST)
    assert data is not None
    if damage is None:
        store.tables.delete(MANIFEST)
    else:
        store.tables.put(MANIFEST, data[:-1] + damage)
    assert root(store, manifest).shown == made.shown
    assert store.tables.get(MANIFEST) == data


def test_a_root_without_a_layer_is_not_stored(store: LocalStore) -> None:
    whole = image(store)
    store.content.delete(whole.layers[1].digest)
    found = root(store, whole)
    assert [(one.layer, one.path) for one in found.left_out] == [(1, b"")]
    assert store.tables.get(MANIFEST) is None


def test_a_root_that_cannot_be_stored_is_returned(
    store: LocalStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    manifest = image(store)

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(store.tables, "put", full)
    assert len(root(store, manifest)) == 4

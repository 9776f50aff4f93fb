"""Exports by the engine: leases, and writers that fail."""

import random
from pathlib import Path

import pytest

from engine.archive.export import export
from engine.archive.save import Output
from engine.stores.local.store import LocalStore
from tests.filetree.layers import file, layer, stored
from tests.stores.memory import MemoryStore

NOISE = random.Random(1).randbytes(4_000_000).decode("latin-1")


def test_a_writer_that_fails(tmp_path: Path) -> None:
    store = MemoryStore(tmp_path)
    manifest = stored(store, [layer(file("noise", NOISE))])

    def write(_block: bytes) -> None:
        raise BrokenPipeError

    with pytest.raises(BrokenPipeError):
        export(store, manifest, (), Output(write))


def test_layers_are_leased_while_they_are_read(tmp_path: Path) -> None:
    with LocalStore.create(tmp_path / "store") as store:
        manifest = stored(store, [layer(file("a"))])
        leased: list[str] = []

        def write(_block: bytes) -> None:
            leased.extend(store.leases.protected())

        export(store, manifest, (), Output(write))
        assert leased == [manifest.layers[0].digest]
        assert store.leases.protected() == set()

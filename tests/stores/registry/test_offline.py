"""Registries that take connections and say nothing."""

import socket
from pathlib import Path

import pytest

from engine.content.blobs import read_blob
from engine.errors import Unreachable
from engine.stores.open import open_store
from tests.archives import ImageParts, digest
from tests.stores.registry.server import lacking, load_into, registry

APP = ImageParts()


def test_a_silent_registry_holds_up_nothing_that_is_cached(
    tmp_path: Path, patience: pytest.MonkeyPatch
) -> None:
    if reason := lacking():
        pytest.skip(reason)
    (tmp_path / "registry").mkdir()
    with registry(tmp_path / "registry") as host:
        url = f"registry://{host}?cache={tmp_path}/cache"
        load_into(url, APP)
    patience.undo()  # wait as long as the product does
    with socket.create_server(("127.0.0.1", int(host.partition(":")[2]))), open_store(url) as store:
        for _ in range(100):
            (image,) = store.images.all()
            assert image.name == f"{host}/app:1"
            assert read_blob(store.content, digest(APP.layers[0])) == APP.layers[0]
        with pytest.raises(Unreachable, match="does not answer"):
            store.images.find(f"{host}/other:1")
        with pytest.raises(Unreachable, match="does not answer"):
            store.images.find(f"{host}/another:1")

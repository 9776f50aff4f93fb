"""Files of a layer are read by ranges once its table is known, also after the layer was evicted."""

import random
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from engine.content.blobs import read_blob
from engine.layers.layer import Layers
from engine.stores.open import open_store
from tests.archives import ImageParts, compressed, digest, tar
from tests.stores.registry.proxy import BLOB, Proxy, proxy
from tests.stores.registry.server import lacking, load_into, registry
from tests.waiting import wait_until

APP = ImageParts(layers=(tar([("first", b"1\n"), ("noise", random.Random(1).randbytes(5 << 20))]),))
LAYER = compressed(APP.layers[0])


@pytest.fixture
def before(tmp_path: Path) -> Iterator[Proxy]:
    """Return a proxy before a registry that has the image app:1, with a compressed layer."""
    if reason := lacking():
        pytest.skip(reason)
    (tmp_path / "registry").mkdir()
    with registry(tmp_path / "registry") as host:
        load_into(f"registry://{host}?cache={tmp_path}/pushed", APP, gzipped=True)
        with proxy(host) as found:
            yield found


def test_a_layer_that_was_fetched_has_a_table(before: Proxy, tmp_path: Path) -> None:
    url = f"registry://{before.host}?cache={tmp_path}/cache"
    with open_store(url) as store:
        assert len(store.images.all()) == 1
        assert read_blob(store.content, digest(LAYER)) == LAYER
        wait_until(lambda: store.tables.get(digest(LAYER)) is not None, "the table is made")
        store.content.delete(digest(LAYER))  # as an eviction does
    before.seen.clear()
    with open_store(url) as store:
        layers = Layers(store.content, store.tables, tmp_path)
        with closing(layers), layers.open(digest(LAYER)) as layer:
            assert layer.read(512, 0) == APP.layers[0][:512]
    asked = before.matching(f"{BLOB}:{digest(LAYER)[7:]}")
    assert [(each.status, each.size) for each in asked] == [(206, 1 << 20)]

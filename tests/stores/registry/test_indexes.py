"""Indexes that list the same manifests again and again, or very many of them."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from engine.content.blobs import read_blob
from engine.errors import LimitExceeded
from engine.stores.open import open_store
from engine.stores.protocols import Store
from engine.stores.registry.content import RegistryContent
from tests.archives import OCI_INDEX, OCI_MANIFEST, ImageParts, descriptor, to_json
from tests.stores.registry.memory_registry import MemoryRegistry, memory_registry

IMAGE = ImageParts()


@pytest.fixture
def registry() -> Iterator[MemoryRegistry]:
    with memory_registry() as running:
        running.put("app", "1", IMAGE)
        yield running


@pytest.fixture
def store(registry: MemoryRegistry, tmp_path: Path) -> Iterator[Store]:
    with open_store(f"registry://{registry.host}?cache={tmp_path}/cache") as opened:
        yield opened


def index(*manifests: dict[str, object]) -> bytes:
    return to_json({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": manifests})


def test_a_manifest_that_is_listed_many_times_is_learnt_once(
    registry: MemoryRegistry, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    keep = RegistryContent.keep
    kept: list[str] = []

    def keep_once(content: RegistryContent, digest: str, data: bytes) -> None:
        assert digest not in kept
        kept.append(digest)
        keep(content, digest, data)

    monkeypatch.setattr(RegistryContent, "keep", keep_once)
    data = IMAGE.manifest()
    below = descriptor(data, OCI_MANIFEST)
    for depth in range(16):
        data = index(*[below] * (1000 if depth > 12 else 10))
        below = descriptor(data, OCI_INDEX)
        registry.put_manifest("app", f"nested{depth}", data)
    store.images.get(f"{registry.host}/app:nested15")
    assert len(kept) == 16 + len([IMAGE.manifest(), IMAGE.config])
    assert read_blob(store.content, IMAGE.id) == IMAGE.config


def test_too_many_manifests_are_an_error_before_they_are_fetched(
    registry: MemoryRegistry, store: Store
) -> None:
    many = [descriptor(b"%d" % number, OCI_MANIFEST) for number in range(10_000)]
    registry.put_manifest("app", "many", index(*many))
    with pytest.raises(LimitExceeded, match="limit 10000"):
        store.images.get(f"{registry.host}/app:many")
    assert not [path for path in registry.seen if "/manifests/sha256:" in path]

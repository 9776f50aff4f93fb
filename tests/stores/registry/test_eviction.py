"""The eviction of blobs from a cache that is too large."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from engine.content.protocols import Info
from engine.stores.local.content import LocalContent
from engine.stores.local.store import LocalStore
from engine.stores.registry.eviction import Eviction
from engine.stores.registry.sources import Source, Sources
from engine.testing.blobs import write_blob
from tests.archives import digest

FIRST, SECOND = (bytes([n]) * (1 << 20) for n in (1, 2))


def test_a_blob_that_comes_while_another_eviction_looks_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    walk = LocalContent.walk
    path = tmp_path / "cache"
    with LocalStore.create(path) as cache, Sources(path, "host/") as sources:
        eviction = Eviction(cache.content, sources, len(FIRST))

        def come(blob: bytes) -> None:
            write_blob(cache.content, digest(blob), blob)
            sources.add([Source(digest(blob), "host/app", len(blob), is_manifest=False)])
            sources.use(digest(blob))
            eviction.run()

        def walk_slowly(content: LocalContent) -> Iterator[Info]:
            seen = list(walk(content))
            if not content.exists(digest(SECOND)):
                come(SECOND)
            return iter(seen)

        monkeypatch.setattr(LocalContent, "walk", walk_slowly)
        come(FIRST)
        assert not cache.content.exists(digest(FIRST))
        assert cache.content.exists(digest(SECOND))

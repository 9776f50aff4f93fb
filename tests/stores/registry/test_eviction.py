"""The eviction of blobs from a cache that is too large."""

import hashlib
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from engine.content.protocols import Info
from engine.stores.local.content import LocalContent
from engine.stores.local.store import LocalStore
from engine.stores.local.writer import LocalWriter
from engine.stores.registry.download import INGEST
from engine.stores.registry.eviction import Eviction
from engine.stores.registry.sources import Source, Sources
from engine.testing.blobs import write_blob
from tests.archives import digest

FIRST, SECOND, THIRD = (bytes([n]) * (1 << 20) for n in (1, 2, 3))


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


def begin(cache: LocalStore, path: Path, blob: bytes, at: float) -> LocalWriter:
    """Return the ingest of a download that has come half, and whose last byte came at a time."""
    ref = f"{INGEST}{digest(blob)}"
    writer = cache.content.writer(ref, len(blob), digest(blob))
    writer.write(blob[: len(blob) // 2])
    os.utime(path / "ingest" / hashlib.sha256(ref.encode()).hexdigest() / "data", (at, at))
    return writer


@pytest.mark.parametrize(
    ("limit", "left"),
    [(len(FIRST), {SECOND, THIRD}), (len(FIRST) * 3 // 4, {THIRD}), (1, {THIRD})],
    ids=["the oldest", "both", "all but what is held"],
)
def test_downloads_that_were_broken_off_count(tmp_path: Path, limit: int, left: set[bytes]) -> None:
    path = tmp_path / "cache"
    with LocalStore.create(path) as cache, Sources(path, "host/") as sources:
        begin(cache, path, SECOND, 3).close()
        begin(cache, path, FIRST, 2).close()
        with begin(cache, path, THIRD, 1):
            Eviction(cache.content, sources, limit).run()
            refs = {status.ref for status in cache.content.statuses()}
    assert refs == {f"{INGEST}{digest(blob)}" for blob in left}


def test_an_ingest_that_is_not_of_a_download_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "cache"
    with LocalStore.create(path) as cache, Sources(path, "host/") as sources:
        with cache.content.writer("mine") as writer:
            writer.write(FIRST)
        Eviction(cache.content, sources, 1).run()
        assert [status.ref for status in cache.content.statuses()] == ["mine"]

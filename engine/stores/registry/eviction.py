"""The size limit of the cache: the blobs that were read least recently go first."""

from __future__ import annotations

from contextlib import suppress
from threading import Lock
from typing import Final

from engine.errors import NotFound, StoreError
from engine.stores.local.content import LocalContent
from engine.stores.registry.sources import Sources

_DOCUMENT: Final = 256 << 10
"""Bytes of a blob that is kept, since it may be a manifest or a config, which listings need."""


class Eviction:
    """Removes blobs that the registry has from the cache. Safe from any thread.

    Readers keep what they have open: its bytes are freed when they close it.
    """

    def __init__(self, cache: LocalContent, sources: Sources, limit: int) -> None:
        """`limit` is in bytes, 0 for none."""
        self._cache = cache
        self._sources = sources
        self._limit = limit
        self._lock = Lock()
        self._is_wanted = False

    def run(self) -> None:
        """Remove what is too much; while another thread does, let that one look again."""
        self._is_wanted = bool(self._limit)
        while self._is_wanted and self._lock.acquire(blocking=False):
            try:
                self._is_wanted = False
                self._remove()
            finally:
                self._lock.release()

    def _remove(self) -> None:
        try:
            blobs = list(self._cache.walk())
            excess = sum(blob.size for blob in blobs) - self._limit
            used = self._sources.last_uses() if excess > 0 else {}
            for blob in sorted(blobs, key=lambda blob: used.get(blob.digest, blob.updated_at)):
                if excess <= 0:
                    return
                if blob.size > _DOCUMENT and self._sources.find(blob.digest):
                    with suppress(NotFound):
                        self._cache.delete(blob.digest)
                        excess -= blob.size
        except (StoreError, OSError):  # the cache is locked or full; the next download tries again
            return

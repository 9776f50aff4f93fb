"""The size limit of the cache: the blobs that were read least recently go first, as do downloads
that were broken off.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from functools import partial
from threading import Lock
from typing import Final

import msgspec

from engine.content.protocols import Info, Status
from engine.errors import NotFound, StoreError, Unavailable
from engine.spec.digest import Digest
from engine.stores.local.content import LocalContent
from engine.stores.registry.download import INGEST
from engine.stores.registry.sources import Sources

_DOCUMENT: Final = 256 << 10
"""Bytes of a blob that is kept, since it may be a manifest or a config, which listings need."""


class _Removable(msgspec.Struct, frozen=True):
    """A part of the cache that the registry has: a blob, or a download that was broken off."""

    size: int
    used_at: float
    remove: Callable[[], None]
    """Raises NotFound if another process was faster, Unavailable if it is being fetched."""


class Eviction:
    """Removes what the registry has from the cache. Safe from any thread.

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
            blobs, ingests = list(self._cache.walk()), self._cache.statuses()
            size = sum(blob.size for blob in blobs) + sum(ingest.offset for ingest in ingests)
            if size <= self._limit:
                return
            found = [*self._blobs(blobs), *self._ingests(ingests)]
            self._reduce(found, size - self._limit)
        except (StoreError, OSError):  # the cache is locked or full; the next download tries again
            return

    def _reduce(self, found: Iterable[_Removable], excess: int) -> None:
        """Remove those that were used least recently, until so many bytes are free."""
        for each in sorted(found, key=lambda each: each.used_at):
            if excess <= 0:
                return
            with suppress(NotFound, Unavailable):
                each.remove()
                excess -= each.size

    def _blobs(self, blobs: Iterable[Info]) -> Iterator[_Removable]:
        used = self._sources.last_uses()
        for blob in blobs:
            if blob.size > _DOCUMENT:
                used_at = used.get(blob.digest, blob.updated_at)
                yield _Removable(blob.size, used_at, partial(self._delete, blob.digest))

    def _delete(self, digest: Digest) -> None:
        """Delete a blob; raise NotFound if the registry does not have it either."""
        if not self._sources.find(digest):
            raise NotFound("blob", digest)
        self._cache.delete(digest)

    def _ingests(self, ingests: Iterable[Status]) -> Iterator[_Removable]:
        for each in ingests:
            if each.ref.startswith(INGEST):
                remove = partial(self._cache.abort, each.ref)
                yield _Removable(each.offset, each.updated_at, remove)

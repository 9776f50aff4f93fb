"""A database of the places of blobs, and of their last reads, next to the database of the cache.

CACHE/registry.db   sources: a repository (full name) that has a blob, with its size
                    uses: when a cached blob was opened last, in seconds since the epoch

A damaged one is made anew: names that are looked up bring the sources back.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from threading import Lock
from typing import Final

import msgspec

from engine.closing import Closing
from engine.errors import StoreError
from engine.stores.local.store import CACHE_DATABASE
from engine.stores.registry.disposable_database import DisposableDatabase

_MIGRATIONS: Final = (
    (
        """CREATE TABLE sources (
            digest TEXT NOT NULL, repository TEXT NOT NULL, size INTEGER NOT NULL,
            is_manifest INTEGER NOT NULL, PRIMARY KEY (digest, repository)) WITHOUT ROWID""",
        "CREATE TABLE uses (digest TEXT PRIMARY KEY, used_at REAL NOT NULL) WITHOUT ROWID",
    ),
)
_UNSAVED: Final = 60.0
"""Seconds for which uses may be in memory only."""
_BATCH: Final = 500


class Source(msgspec.Struct, frozen=True):
    """A repository, by its full name, that has a blob."""

    digest: str
    repository: str
    size: int
    is_manifest: bool


class Sources(Closing):
    """The sources and uses of blobs. Safe from any thread and process."""

    def __init__(self, directory: Path, root: str, clock: Callable[[], float] = time.time) -> None:
        """Only repositories below `root`, which ends with a slash, are found."""
        self._database = DisposableDatabase(directory / CACHE_DATABASE, _MIGRATIONS)
        self._span = root, f"{root[:-1]}0"  # "0" follows "/"
        self._clock = clock
        self._used: dict[str, float] = {}
        """The uses that are not saved yet."""
        self._saved_at = clock()
        self._lock = Lock()

    def add(self, sources: Iterable[Source]) -> None:
        """Remember sources."""
        self._database.write(
            "INSERT OR REPLACE INTO sources VALUES (?, ?, ?, ?)",
            map(msgspec.structs.astuple, sources),
        )

    def disputed(self, sources: Iterable[Source]) -> set[Source]:
        """Return those that state another size than any known source of their blob does."""
        stated = {source.digest: source for source in sources}
        known = self._rows("SELECT DISTINCT digest, size FROM sources WHERE digest IN ({})", stated)
        return {stated[digest] for digest, size in known if size != stated[digest].size}

    def settle(self, digest: str, size: int) -> None:
        """Forget the sources that state another size of a blob than this, which is right."""
        self._database.write("DELETE FROM sources WHERE digest = ? AND size != ?", [(digest, size)])

    def remove(self, digest: str, repository: str) -> None:
        """Forget that a repository has a blob."""
        self._database.write(
            "DELETE FROM sources WHERE digest = ? AND repository = ?", [(digest, repository)]
        )

    def find(self, digest: str) -> list[Source]:
        """Return the sources of a blob."""
        rows = self._database.read(
            "SELECT digest, repository, size, is_manifest FROM sources"
            " WHERE digest = ? AND repository >= ? AND repository < ?",
            (digest, *self._span),
        )
        return [Source(digest, name, size, bool(kind)) for digest, name, size, kind in rows]

    def sizes(self, digests: Iterable[str]) -> dict[str, int]:
        """Return the sizes of those blobs that some repository has."""
        query = (
            "SELECT digest, size FROM sources WHERE digest IN ({})"
            " AND repository >= ? AND repository < ?"
        )
        return dict(self._rows(query, digests, *self._span))

    def _rows(self, query: str, digests: Iterable[str], *others: str) -> Iterator[tuple[str, int]]:
        """Yield the rows of a query with a list of digests, and other parameters after it."""
        wanted = list(digests)
        for start in range(0, len(wanted), _BATCH):
            batch = wanted[start : start + _BATCH]
            marks = ",".join("?" * len(batch))
            yield from self._database.read(query.format(marks), (*batch, *others))

    def use(self, digest: str) -> None:
        """Record that a blob is used now."""
        now = self._clock()
        with self._lock:
            self._used[digest] = now
        if now - self._saved_at >= _UNSAVED:
            self._save()

    def last_uses(self) -> dict[str, float]:
        """Return when each blob was used last."""
        self._save()
        saved = dict(self._database.read("SELECT digest, used_at FROM uses"))
        with self._lock:
            return {**saved, **self._used}

    def _save(self) -> None:
        """Save the uses; not each at once, since that would take longer than to open a blob. Keep
        them if the cache is full or locked.
        """
        with self._lock:
            uses, self._used, self._saved_at = self._used, {}, self._clock()
        if not uses:
            return
        try:
            self._database.write("INSERT OR REPLACE INTO uses VALUES (?, ?)", uses.items())
        except (StoreError, OSError):
            with self._lock:
                self._used = {**uses, **self._used}

    def close(self) -> None:
        self._save()
        self._database.close()

"""Garbage collection, which runs while other processes read, load and tag.

As in containerd, a blob stays while an image has it (`members`), a lease protects it, a label
`containerd.io/gc.root` marks it, a resumable ingest expects it, or a blob that stays refers to it
by a label `containerd.io/gc.ref.content…`. The table `refs` holds these references, so that whether
a blob is referred to is a lookup, and a collection does not load the whole store: it takes the
blobs without references, then those that only they referred to, down to the layers. Content cannot
refer to itself; a cycle of labels is not collected.

The plan is made by plain reads. Each of its blobs is checked again under the database's write lock
before its row is deleted, in batches of some milliseconds with pauses of the same length; a blob
that was leased before then stays. An open file remains readable after it is unlinked.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Final

from engine.stores.local.leases import DAY
from engine.stores.local.tables import StoredTable
from engine.stores.records import Garbage, Lease

if TYPE_CHECKING:
    from engine.stores.local.store import LocalStore

_BATCH: Final = 50
_PAGE: Final = 500
_UNROOTED: Final = """
    NOT EXISTS (SELECT 1 FROM members WHERE members.digest = blobs.digest)
    AND NOT EXISTS (SELECT 1 FROM images WHERE images.digest = blobs.digest)
    AND ifnull(json_extract(blobs.labels, '$."containerd.io/gc.root"'), '') = ''"""
_UNHELD: Final = f"""{_UNROOTED}
    AND NOT EXISTS (SELECT 1 FROM refs WHERE refs.child = blobs.digest)"""


class Collector:
    """The collector of one store; a resumable ingest is kept until it is unchanged for `idle`
    seconds.
    """

    def __init__(self, store: LocalStore, idle: float = DAY) -> None:
        self._store = store
        self._idle = idle

    def plan(self) -> Iterator[Garbage]:
        """Yield what `collect` would remove now."""
        ended = self._store.leases.ended()
        yield from map(_lease, ended)
        yield from self._blobs({lease.id for lease in ended})
        yield from self._leftovers()

    def collect(self) -> Iterator[Garbage]:
        """Remove all garbage; yield each item after its removal. Raise StoreError or OSError."""
        freed = 0
        for garbage in self._collected():
            freed += garbage.size
            yield garbage
        if freed:
            self._store.events.add("gc", "", reclaimed=freed)

    def _collected(self) -> Iterator[Garbage]:
        content = self._store.content
        yield from map(_lease, self._store.leases.prune())
        remaining = self._blobs(set())
        while batch := list(islice(remaining, _BATCH)):
            begun = time.monotonic()
            swept = self._sweep(batch)
            took = time.monotonic() - begun
            yield from swept
            if len(batch) == _BATCH:
                time.sleep(took)
        for left in self._leftovers():
            if left.kind == "table":
                Path(left.name).unlink(missing_ok=True)
                went = True
            elif left.kind == "file":
                went = bool(content.reclaim([left.name]))
            else:
                went = content.remove_abandoned(left.name)
            if went:
                yield left

    def _blobs(self, ended: set[str]) -> Iterator[Garbage]:
        """Yield the blobs without references, each before the blobs that it refers to."""
        kept = self._kept(ended)
        gone: set[str] = set()
        for root in self._unheld():
            queue = deque([root])
            while queue:
                digest, size = queue.popleft()
                if digest in gone or digest in kept:
                    continue
                gone.add(digest)
                queue.extend(self._released(digest, gone))
                yield Garbage("blob", digest, size, "no image, lease or other blob refers to it")

    def _leftovers(self) -> Iterator[Garbage]:
        """Yield the remains of processes that ended early."""
        for digest, size in self._store.content.rowless():
            yield Garbage("file", digest, size, "it has no row: a load or a removal ended early")
        for left in self._store.content.abandoned(self._idle):
            yield Garbage("ingest", left.name, left.size, left.reason)
        for table in self._tables():
            yield Garbage("table", str(table.path), table.size, "no blob has its digest")

    def _tables(self) -> Iterator[StoredTable]:
        """Yield the tables without a blob.

        A load may be about to publish the blob; then the table is made again when it is needed.
        """
        for found in self._store.tables.files():
            if not (found.digest and self._store.content.sizes([found.digest])):
                yield found

    def _sweep(self, batch: list[Garbage]) -> list[Garbage]:
        """Delete the rows of those blobs that are still garbage, then their files; return these
        blobs.
        """
        database, content = self._store.database, self._store.content
        with database.transaction():
            expected = self._expected()
            swept = [
                garbage
                for garbage in batch
                if garbage.name not in expected and self._forget(garbage.name)
            ]
        content.reclaim(garbage.name for garbage in swept)
        for garbage in swept:
            self._store.tables.delete(garbage.name)
        return swept

    def _forget(self, digest: str) -> bool:
        if self._store.leases.holders(digest):
            return False
        query = f"DELETE FROM blobs WHERE digest = ? AND {_UNHELD}"
        return bool(self._store.database.connection.execute(query, (digest,)).rowcount)

    def _unheld(self) -> Iterator[tuple[str, int]]:
        last = ""
        query = (
            f"SELECT digest, size FROM blobs WHERE digest > ? AND {_UNHELD} ORDER BY digest LIMIT ?"
        )
        while rows := self._store.database.read(query, (last, _PAGE)):
            yield from rows
            last = rows[-1][0]

    def _released(self, digest: str, gone: set[str]) -> Iterator[tuple[str, int]]:
        """Yield the blobs (digest, size) that only `digest` and removed blobs refer to."""
        read = self._store.database.read
        rows = read(
            "SELECT blobs.digest, blobs.size FROM refs JOIN blobs ON blobs.digest = refs.child"
            f" WHERE refs.parent = ? AND {_UNROOTED}",
            (digest,),
        )
        for child, size in rows:
            holders = {row[0] for row in read("SELECT parent FROM refs WHERE child = ?", (child,))}
            if holders <= gone:
                yield child, size

    def _kept(self, ended: set[str]) -> set[str]:
        """Return the digests that leases protect and those that ingests expect."""
        return self._store.leases.protected(ended) | self._expected()

    def _expected(self) -> set[str]:
        statuses = self._store.content.statuses()
        return {status.expected for status in statuses if status.expected}


def _lease(lease: Lease) -> Garbage:
    reason = "its process has ended" if lease.expires_at is None else "it has expired"
    return Garbage("lease", lease.id, 0, reason)

"""Collection: what nothing needs goes, while others read, load and tag.

A blob stays while an image has it (`members`), a lease protects it, a label `containerd.io/gc.root`
marks it, an ingest that can be resumed expects it, or a blob that stays holds it by a label
`containerd.io/gc.ref.content…`; these are containerd's rules. The labels of all blobs stand in the
table `refs`, so that "does anything hold it" is a lookup, and a collection needs no picture of the
whole store: it takes the blobs that nothing holds, then those that only they held, down to the
layers. Content cannot refer to itself; a cycle that somebody made of labels stays.

The plan is made of plain reads. Each blob of it is looked at again under the database's write lock
before its row goes, in batches of some milliseconds with pauses as long; whoever has found it
before, and leased it, keeps it. An open file outlives its name.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterator
from itertools import islice
from typing import TYPE_CHECKING, Final

from engine.stores.local.leases import DAY
from engine.stores.protocols import Garbage, Lease

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
    """Collects one store; a resumable ingest may rest for `idle` seconds."""

    def __init__(self, store: LocalStore, idle: float = DAY) -> None:
        self._store = store
        self._idle = idle

    def plan(self) -> Iterator[Garbage]:
        """What `collect` would remove now."""
        ended = self._store.leases.ended()
        yield from map(_lease, ended)
        yield from self._blobs({lease.id for lease in ended})
        yield from self._leftovers()

    def collect(self) -> Iterator[Garbage]:
        """Remove what is not needed, told when it is gone. StoreError, OSError."""
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
            if left.kind == "file":
                went = bool(content.reclaim([left.name]))
            else:
                went = content.remove_abandoned(left.name)
            if went:
                yield left

    def _blobs(self, ended: set[str]) -> Iterator[Garbage]:
        """The blobs that nothing holds, each before what it holds itself."""
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
        """What processes that ended early have left."""
        for digest, size in self._store.content.rowless():
            yield Garbage("file", digest, size, "it has no row: a load or a removal ended early")
        for left in self._store.content.abandoned(self._idle):
            yield Garbage("ingest", left.name, left.size, left.reason)

    def _sweep(self, batch: list[Garbage]) -> list[Garbage]:
        """Delete the rows of those that nothing holds still, then their files."""
        database, content = self._store.database, self._store.content
        with database.transaction():
            expected = self._expected()
            swept = [
                garbage
                for garbage in batch
                if garbage.name not in expected and self._forget(garbage.name)
            ]
        content.reclaim(garbage.name for garbage in swept)
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
        """What `digest` holds and nothing else but what is gone."""
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
        """What leases protect, and what ingests are to become."""
        return self._store.leases.protected(ended) | self._expected()

    def _expected(self) -> set[str]:
        statuses = self._store.content.statuses()
        return {status.expected for status in statuses if status.expected}


def _lease(lease: Lease) -> Garbage:
    reason = "its process has ended" if lease.expires_at is None else "it has expired"
    return Garbage("lease", lease.id, 0, reason)

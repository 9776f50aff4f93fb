"""Garbage collection, which runs while other processes read, load and tag.

As in containerd, a blob stays while an image has it (`members`), a lease protects it, a label
`containerd.io/gc.root` marks it, a resumable ingest expects it, or a blob that stays refers to it
by a label `containerd.io/gc.ref.content…`. The table `refs` holds these references, so that whether
a blob is referred to is a lookup, and a collection does not load the whole store: it takes the
blobs without references, then those that only they referred to, down to the layers; each of these
levels in the order of the digests, in which the database has them. Content cannot refer to itself;
a cycle of labels is not collected.

The plan is made by plain reads. Each of its blobs is checked again under the database's write lock
before its row is deleted; a blob that was leased before then stays. Rows and files go in batches
that hold the lock for some milliseconds. The lock is then free for as long, while the files are
unlinked. An open file remains readable after it is unlinked.

Nothing is collected while the database is being rebuilt (`rebuild.py`), by a collection that has
begun before neither: that is checked again under the lock of each batch.
"""

from __future__ import annotations

import os
import time
from collections.abc import Collection, Iterable, Iterator
from contextlib import suppress
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Final

import msgspec

from engine.errors import is_of_space
from engine.stores.local import rebuild
from engine.stores.local.connection import damaged
from engine.stores.local.tables import StoredTable
from engine.stores.records import Garbage, Lease

if TYPE_CHECKING:
    from engine.stores.local.store import LocalStore

DAY: Final = 86400.0
_LOCKED: Final = 0.01
"""Seconds for which a batch should hold the lock."""
_BATCH: Final = 100
"""Blobs in the first batch, and the smallest number in any."""
_MOST: Final = 1000
_PAGE: Final = 500
_UNUSED: Final = "no image, lease or other blob refers to it"
_UNROOTED: Final = """
    NOT EXISTS (SELECT 1 FROM members WHERE members.digest = blobs.digest)
    AND NOT EXISTS (SELECT 1 FROM images WHERE images.digest = blobs.digest)
    AND ifnull(json_extract(blobs.labels, '$."containerd.io/gc.root"'), '') = ''"""
_UNHELD: Final = f"""{_UNROOTED}
    AND NOT EXISTS (SELECT 1 FROM refs WHERE refs.child = blobs.digest)"""
_CHILDREN: Final = f"""
    SELECT blobs.digest, blobs.size,
        (SELECT min(parent) FROM refs AS holders WHERE holders.child = blobs.digest),
        (SELECT max(parent) FROM refs AS holders WHERE holders.child = blobs.digest)
    FROM refs JOIN blobs ON blobs.digest = refs.child
    WHERE refs.parent = ? AND {_UNROOTED}"""
"""The children of a blob, each with the first and the last blob that refers to it."""
_FORGET: Final = f"""
    DELETE FROM blobs WHERE digest IN (SELECT value FROM json_each(?)) AND {_UNHELD}
    AND NOT EXISTS (SELECT 1 FROM lease_resources WHERE lease_resources.digest = blobs.digest)
    RETURNING digest"""


class Collector:
    """The collector of one store; a resumable ingest is kept until it is unchanged for `idle`
    seconds.
    """

    def __init__(self, store: LocalStore, idle: float = DAY) -> None:
        self._store = store
        self._idle = idle

    def plan(self) -> Iterator[Garbage]:
        """Yield what `collect` would remove now; raise as it does."""
        rebuild.check_finished(self._store.directory)
        ended = self._store.leases.ended()
        yield from map(_lease, ended)
        yield from self._blobs({lease.id for lease in ended})
        yield from self._leftovers()

    def collect(self) -> Iterator[Garbage]:
        """Remove all garbage; yield each item after its removal.

        Raise StoreError, also if the database is being rebuilt, or OSError.
        """
        rebuild.check_finished(self._store.directory)
        freed = 0
        for garbage in self._collected():
            freed += garbage.size
            yield garbage
        if freed:
            self._store.events.add("gc", "", reclaimed=freed)

    def _collected(self) -> Iterator[Garbage]:
        content = self._store.content
        yield from map(_lease, self._store.leases.prune())
        # A table made from here on is one of the leftovers.
        tables = {table.digest for table in self._store.tables.files()}
        remaining, size = self._blobs(set()), _BATCH
        while batch := list(islice(remaining, size)):
            begun = time.monotonic()
            swept = self._sweep(batch)
            locked = time.monotonic() - begun
            self._unlink(swept, tables)
            yield from swept
            if len(batch) == size:
                time.sleep(max(0, begun + 2 * locked - time.monotonic()))
            size = max(_BATCH, min(_MOST, int(size * _LOCKED / locked)))
        for left in self._leftovers():
            if left.kind == "table":
                Path(left.name).unlink(missing_ok=True)
                went = True
            elif left.kind == "file":
                went = bool(content.reclaim([left.name]))
            else:
                went = content.ingests.remove(left.name)
            if went:
                yield left

    def _blobs(self, ended: set[str]) -> Iterator[Garbage]:
        """Yield the blobs without references, each before the blobs that it refers to."""
        kept = self._store.leases.protected(ended) | self._expected()
        gone: set[str] = set()
        level: Iterable[tuple[str, int]] = self._unheld()
        while level:
            released: list[tuple[str, int]] = []
            for digest, size in level:
                if type(size) is not int:
                    raise damaged(self._store.database.path, f"the row of blob {digest!r}")
                if digest not in gone and digest not in kept:
                    gone.add(digest)
                    released += self._released(digest, gone)
                    yield Garbage("blob", digest, size, _UNUSED)
            level = sorted(released)

    def _leftovers(self) -> Iterator[Garbage]:
        """Yield the remains of processes that ended early."""
        for digest, size in self._store.content.rowless():
            yield Garbage("file", digest, size, "it has no row: a load or a removal ended early")
        for left in self._store.content.ingests.abandoned(self._idle):
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

    def _sweep(self, batch: list[Garbage]) -> dict[Garbage, str]:
        """Delete the rows of those blobs that are still garbage, then move their files out of
        `blobs/`; return these blobs with the paths of the files, "" for one without a file.
        Where the space does not suffice for so many rows at once, take fewer.
        """
        try:
            return self._swept(batch)
        except OSError as error:
            if not is_of_space(error) or len(batch) == 1:
                raise
        half = len(batch) // 2
        return self._sweep(batch[:half]) | self._sweep(batch[half:])

    def _swept(self, batch: list[Garbage]) -> dict[Garbage, str]:
        with self._store.database.transaction():
            rebuild.check_finished(self._store.directory)
            expected = self._expected()
            gone = self._forget([one.name for one in batch if one.name not in expected])
        moved = self._store.content.discard(gone)
        return {one: moved.get(one.name, "") for one in batch if one.name in gone}

    def _forget(self, digests: list[str]) -> set[str]:
        """Delete the rows of what nothing refers to; return their digests.

        A statement does not delete a blob together with the last one that refers to it.
        """
        gone: set[str] = set()
        execute = self._store.database.connection.execute
        while rows := execute(_FORGET, (msgspec.json.encode(digests).decode(),)).fetchall():
            gone.update(digest for (digest,) in rows)
            digests = [digest for digest in digests if digest not in gone]
        return gone

    def _unlink(self, swept: dict[Garbage, str], tables: Collection[str | None]) -> None:
        for garbage, path in swept.items():
            with suppress(FileNotFoundError):  # another collection may have found it there
                os.unlink(path)
            if garbage.name in tables:
                self._store.tables.delete(garbage.name)

    def _unheld(self) -> Iterator[tuple[str, int]]:
        query = (
            f"SELECT digest, size FROM blobs WHERE digest > ? AND {_UNHELD} ORDER BY digest LIMIT ?"
        )
        for rows in self._store.database.pages(query, _PAGE):
            yield from rows

    def _released(self, digest: str, gone: set[str]) -> Iterator[tuple[str, int]]:
        """Yield the blobs (digest, size) that only `digest` and removed blobs refer to."""
        read = self._store.database.read
        rows = read(_CHILDREN, (digest,))
        # Blobs go in the order of their digests, so one of many holders that stays is the last.
        for child, size, first, last in rows:
            if last is not None and last not in gone:
                continue
            if first == last:
                yield child, size
                continue
            holders = {row[0] for row in read("SELECT parent FROM refs WHERE child = ?", (child,))}
            if holders <= gone:
                yield child, size

    def _expected(self) -> set[str]:
        statuses = self._store.content.statuses()
        return {status.expected for status in statuses if status.expected}


def _lease(lease: Lease) -> Garbage:
    return Garbage("lease", lease.id, 0, "its process has ended")

"""Leases, which protect content that no image refers to from collection.

A lease is a row with an ID and an expiry time; its resources are digests, whether the store has
them or not. An expired lease has no effect: no method returns it, except `ended` and `prune`, which
deletes its row. The terms are those of containerd's `core/leases`.

A *held* lease lives as long as its process, which has a flock on STORE/leases/<id> that the kernel
releases even after kill -9. The row and the locked file are created in one transaction, so a
process with the database's write lock can distinguish a dead holder from one that is starting.

Every method is one transaction or part of the caller's, and may be called from any thread.
"""

from __future__ import annotations

import fcntl
import os
import sqlite3
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Final

from engine.content.protocols import NO_LABELS
from engine.errors import AlreadyExists, NotFound, StoreError
from engine.spec.digest import Digest, parse
from engine.stores.local.database import Database
from engine.stores.local.locks import is_locked
from engine.stores.protocols import LeaseManager
from engine.stores.records import Lease

DAY: Final = 86400.0

_COLUMNS: Final = "id, created_at, expires_at, labels"
_LIVE: Final = "(expires_at IS NULL OR expires_at > ?)"


class LocalLeases(LeaseManager):
    """The leases of the store at `root` with `database`."""

    def __init__(
        self, root: Path, database: Database, clock: Callable[[], float] = time.time
    ) -> None:
        super().__init__()
        self._database = database
        self._clock = clock
        self._holders = root / "leases"
        self._holders.mkdir(mode=0o700, exist_ok=True)

    def create(
        self,
        id: str | None = None,  # noqa: A002 - the field's own name for it
        expires_in: float | None = DAY,
        labels: Mapping[str, str] = NO_LABELS,
    ) -> Lease:
        """Create a lease that expires in `expires_in` seconds (None: never), with a random ID by
        default.

        Raise AlreadyExists if an unexpired lease has that ID.
        """
        now = self._clock()
        expires_at = None if expires_in is None else now + expires_in
        lease = Lease(id or os.urandom(16).hex(), now, expires_at, dict(labels))
        with self._database.transaction() as connection:
            connection.execute(f"DELETE FROM leases WHERE id = ? AND NOT {_LIVE}", (lease.id, now))
            if connection.execute("SELECT 1 FROM leases WHERE id = ?", (lease.id,)).fetchone():
                raise AlreadyExists("lease", lease.id)
            self._insert(connection, lease, is_held=False)
        return lease

    @contextmanager
    def hold(self, labels: Mapping[str, str] = NO_LABELS) -> Iterator[Lease]:
        """Hold a lease until the block ends or this process dies.

        If it cannot be deleted then, it has ended nevertheless. The child of a fork ends nothing.
        """
        lease = Lease(os.urandom(16).hex(), self._clock(), None, dict(labels))
        holder = self._holders / lease.id
        pid = os.getpid()
        with ExitStack() as ending:
            with self._database.transaction() as connection:
                flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
                descriptor = os.open(holder, flags, 0o600)
                ending.callback(os.close, descriptor)
                ending.callback(_unless_child, pid, partial(holder.unlink, missing_ok=True))
                fcntl.flock(descriptor, fcntl.LOCK_EX)
                self._insert(connection, lease, is_held=True)
            ending.callback(_unless_child, pid, partial(self.delete, lease.id))
            yield lease

    def add(self, lease_id: str, digest: str) -> None:
        """Protect `digest` by the lease; a repetition has no effect.

        Raise NotFound if the lease is gone; InvalidDigest.
        """
        with self._database.transaction() as connection:
            self._check_live(lease_id)
            connection.execute(
                "INSERT INTO lease_resources (lease, digest) VALUES (?, ?) ON CONFLICT DO NOTHING",
                (lease_id, parse(digest)),
            )

    def resources(self, lease_id: str) -> list[Digest]:
        """Return the digests that the lease protects, sorted; raise NotFound."""
        self._check_live(lease_id)
        rows = self._database.read(
            "SELECT digest FROM lease_resources WHERE lease = ? ORDER BY digest", (lease_id,)
        )
        return [parse(digest) for (digest,) in rows]

    def delete(self, lease_id: str) -> None:
        """End the lease; raise NotFound."""
        with self._database.transaction() as connection:
            if not connection.execute("DELETE FROM leases WHERE id = ?", (lease_id,)).rowcount:
                raise NotFound("lease", lease_id)

    def holders(self, digest: str, except_lease: str | None = None) -> list[Lease]:
        """Return the unexpired leases that protect `digest` except `except_lease`, oldest first."""
        rows = self._database.read(
            f"SELECT {_COLUMNS} FROM leases JOIN lease_resources ON lease = id"
            f" WHERE digest = ? AND {_LIVE} AND id IS NOT ? ORDER BY created_at, id",
            (parse(digest), self._clock(), except_lease),
        )
        return [_lease(row) for row in rows]

    def protected(self, without: Collection[str] = ()) -> set[str]:
        """Return the digests protected by unexpired leases other than those in `without`."""
        rows = self._database.read(
            f"SELECT lease, digest FROM lease_resources JOIN leases ON lease = id WHERE {_LIVE}",
            (self._clock(),),
        )
        return {digest for lease, digest in rows if lease not in without}

    def ended(self) -> list[Lease]:
        """Return the leases that have expired or whose holder is dead, oldest first."""
        rows = self._database.read(
            f"SELECT {_COLUMNS}, held FROM leases WHERE held OR NOT {_LIVE}"
            " ORDER BY created_at, id",
            (self._clock(),),
        )
        return [
            _lease(row[:4]) for row in rows if not (row[4] and is_locked(self._holders / row[0]))
        ]

    def prune(self) -> list[Lease]:
        """Delete the rows of the leases that have ended; return these leases."""
        with self._database.transaction() as connection:
            ended = self.ended()
            connection.executemany("DELETE FROM leases WHERE id = ?", [(e.id,) for e in ended])
            known = {row[0] for row in self._database.read("SELECT id FROM leases WHERE held")}
            for name in os.listdir(self._holders):
                if name not in known and not is_locked(self._holders / name):
                    (self._holders / name).unlink(missing_ok=True)
        return ended

    def list(self) -> list[Lease]:
        """Return the unexpired leases, oldest first."""
        rows = self._database.read(
            f"SELECT {_COLUMNS} FROM leases WHERE {_LIVE} ORDER BY created_at, id", (self._clock(),)
        )
        return [_lease(row) for row in rows]

    def _insert(self, connection: sqlite3.Connection, lease: Lease, *, is_held: bool) -> None:
        import json

        labels = json.dumps(dict(lease.labels), sort_keys=True)
        connection.execute(
            f"INSERT INTO leases ({_COLUMNS}, held) VALUES (?, ?, ?, ?, ?)",
            (lease.id, lease.created_at, lease.expires_at, labels, is_held),
        )

    def _check_live(self, lease_id: str) -> None:
        query = f"SELECT 1 FROM leases WHERE id = ? AND {_LIVE}"
        if not self._database.read(query, (lease_id, self._clock())):
            raise NotFound("lease", lease_id)


def _unless_child(parent: int, end: Callable[[], object]) -> None:
    """Call `end` unless this is a child of a fork; after a failure, `prune` ends the lease."""
    if os.getpid() == parent:
        with suppress(NotFound, StoreError, OSError):
            end()


def _lease(row: tuple[str, float, float | None, str]) -> Lease:
    import json

    lease_id, created_at, expires_at, labels = row
    return Lease(lease_id, created_at, expires_at, json.loads(labels))

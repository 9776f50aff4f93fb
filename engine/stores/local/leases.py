"""Leases, which protect content that no image refers to from collection.

A lease is a row; its resources are digests, whether the store has them or not. The terms are those
of containerd's `core/leases`. A lease lives as long as its process, which has a flock on
STORE/leases/<id> that the kernel releases even after kill -9. The row and the locked file are
created in one transaction, so a process with the database's write lock can distinguish a dead
holder from one that is starting.

Every method is one transaction or part of the caller's, and may be called from any thread.
"""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any, Final

import msgspec

from engine.content.protocols import NO_LABELS
from engine.errors import NotFound, StoreError
from engine.spec.digest import parse
from engine.stores.local.connection import check_types, damaged
from engine.stores.local.database import Database
from engine.stores.local.locks import is_locked
from engine.stores.protocols import LeaseManager
from engine.stores.records import Lease

_COLUMNS: Final = "id, created_at, labels"
_TYPES: Final = (str, float, str)


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
        self._pid = os.getpid()
        self._held: set[str] = set()
        """The leases that this process holds."""

    def close(self) -> None:
        """End the leases that are left: a signal can interrupt the code that holds one before
        anything ends it.
        """
        for lease_id in tuple(self._held):
            self._end(lease_id)

    @contextmanager
    def hold(self, labels: Mapping[str, str] = NO_LABELS) -> Iterator[Lease]:
        """Hold a lease until the block ends or this process dies.

        If it cannot be deleted then, it has ended nevertheless. The child of a fork ends nothing.
        """
        import json  # most commands hold no lease

        lease = Lease(os.urandom(16).hex(), self._clock(), dict(labels))
        holder = self._holders / lease.id
        with ExitStack() as ending:
            self._held.add(lease.id)
            ending.callback(self._end, lease.id)
            with self._database.transaction() as connection:
                flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
                descriptor = os.open(holder, flags, 0o600)
                ending.callback(os.close, descriptor)
                fcntl.flock(descriptor, fcntl.LOCK_EX)
                connection.execute(
                    f"INSERT INTO leases ({_COLUMNS}, held) VALUES (?, ?, ?, TRUE)",
                    (lease.id, lease.created_at, json.dumps(dict(labels), sort_keys=True)),
                )
            yield lease

    def _end(self, lease_id: str) -> None:
        """End a lease, unless this is a child of a fork; after a failure, `prune` ends it."""
        if os.getpid() == self._pid:
            with suppress(NotFound, StoreError, OSError):
                self.delete(lease_id)
            with suppress(OSError):
                (self._holders / lease_id).unlink(missing_ok=True)
            self._held.discard(lease_id)

    def add(self, lease_id: str, digest: str) -> None:
        """Protect `digest` by the lease; a repetition has no effect.

        Raise NotFound if the lease is gone; InvalidDigest.
        """
        with self._database.transaction() as connection:
            if not self._database.read("SELECT 1 FROM leases WHERE id = ?", (lease_id,)):
                raise NotFound("lease", lease_id)
            connection.execute(
                "INSERT INTO lease_resources (lease, digest) VALUES (?, ?) ON CONFLICT DO NOTHING",
                (lease_id, parse(digest)),
            )

    def delete(self, lease_id: str) -> None:
        """End the lease; raise NotFound."""
        with self._database.transaction() as connection:
            if not connection.execute("DELETE FROM leases WHERE id = ?", (lease_id,)).rowcount:
                raise NotFound("lease", lease_id)

    def holders(self, digest: str) -> list[Lease]:
        """Return the leases that protect `digest`, oldest first."""
        rows = self._database.read(
            f"SELECT {_COLUMNS} FROM leases JOIN lease_resources ON lease = id"
            " WHERE digest = ? ORDER BY created_at, id",
            (parse(digest),),
        )
        return [self._lease(row) for row in rows]

    def protected(self, without: Collection[str] = ()) -> set[str]:
        """Return the digests protected by leases other than those in `without`."""
        rows = self._database.read("SELECT lease, digest FROM lease_resources")
        return {digest for lease, digest in rows if lease not in without}

    def ended(self) -> list[Lease]:
        """Return the leases whose holder is dead, oldest first."""
        return [lease for lease in self.list() if not is_locked(self._holders / lease.id)]

    def prune(self) -> list[Lease]:
        """Delete the rows of the leases that have ended; return these leases."""
        with self._database.transaction() as connection:
            ended = self.ended()
            connection.executemany("DELETE FROM leases WHERE id = ?", [(e.id,) for e in ended])
            known = {lease.id for lease in self.list()}
            for name in os.listdir(self._holders):
                if name not in known and not is_locked(self._holders / name):
                    (self._holders / name).unlink(missing_ok=True)
        return ended

    def list(self) -> list[Lease]:
        """Return the leases, oldest first."""
        rows = self._database.read(f"SELECT {_COLUMNS} FROM leases ORDER BY created_at, id")
        return [self._lease(row) for row in rows]

    def at(self, rowid: int) -> Lease | None:
        rows = self._database.read(f"SELECT {_COLUMNS} FROM leases WHERE rowid = ?", (rowid,))
        return next(map(self._lease, rows), None)

    def _lease(self, row: tuple[Any, ...]) -> Lease:
        """Return a row as a value; raise StoreDamaged."""
        lease_id, created_at, labels = row
        try:
            check_types(row, _TYPES)
            if not lease_id.isalnum():  # it is the name of a file
                raise ValueError(lease_id)
            return Lease(lease_id, created_at, msgspec.json.decode(labels, type=dict[str, str]))
        except (TypeError, ValueError) as error:
            raise damaged(self._database.path, f"the row of lease {lease_id!r}") from error

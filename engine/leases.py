"""Leases: what must not be collected yet, although no image refers to it.

A lease is a row with an ID and a time at which it ends by itself; its resources are digests,
whether the store has them yet or not. An expired lease is as good as gone: nothing here finds it,
and its row goes with the next `prune`. The terms are those of containerd's `core/leases`. Every
method is one transaction, or a part of the caller's; safe from any thread.
"""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Final

import msgspec

from engine.content import NO_LABELS
from engine.database import Database
from engine.digest import Digest, parse
from engine.errors import AlreadyExists, NotFound

DAY: Final = 86400.0

_COLUMNS: Final = "id, created_at, expires_at, labels"
_LIVE: Final = "(expires_at IS NULL OR expires_at > ?)"


class Lease(msgspec.Struct, frozen=True):
    """Times are seconds since the epoch; without `expires_at` it lasts until it is deleted."""

    id: str
    created_at: float
    expires_at: float | None
    labels: Mapping[str, str]


class Leases:
    """The leases of the store behind `database`."""

    def __init__(self, database: Database, clock: Callable[[], float] = time.time) -> None:
        self._database = database
        self._clock = clock

    def create(
        self,
        id: str | None = None,  # noqa: A002 - the field's own name for it
        expires_in: float | None = DAY,
        labels: Mapping[str, str] = NO_LABELS,
    ) -> Lease:
        """A new lease that ends in `expires_in` seconds (None: never), called `id` or anything.

        AlreadyExists if there is a live one of that ID.
        """
        now = self._clock()
        expires_at = None if expires_in is None else now + expires_in
        lease = Lease(id or secrets.token_hex(16), now, expires_at, dict(labels))
        with self._database.transaction() as connection:
            connection.execute(f"DELETE FROM leases WHERE id = ? AND NOT {_LIVE}", (lease.id, now))
            added = connection.execute(
                f"INSERT INTO leases ({_COLUMNS}) VALUES (?, ?, ?, ?) ON CONFLICT DO NOTHING",
                (lease.id, now, expires_at, json.dumps(lease.labels, sort_keys=True)),
            )
            if not added.rowcount:
                raise AlreadyExists("lease", lease.id)
        return lease

    @contextmanager
    def hold(
        self, labels: Mapping[str, str] = NO_LABELS, expires_in: float | None = DAY
    ) -> Iterator[Lease]:
        """A lease for as long as the block runs."""
        lease = self.create(expires_in=expires_in, labels=labels)
        try:
            yield lease
        finally:
            with suppress(NotFound):
                self.delete(lease.id)

    def add(self, lease_id: str, digest: str) -> None:
        """Protect `digest` by the lease; again is nothing new.

        NotFound if the lease is gone; InvalidDigest.
        """
        with self._database.transaction() as connection:
            self._check_live(lease_id)
            connection.execute(
                "INSERT INTO lease_resources (lease, digest) VALUES (?, ?) ON CONFLICT DO NOTHING",
                (lease_id, parse(digest)),
            )

    def resources(self, lease_id: str) -> list[Digest]:
        """What the lease protects, sorted. NotFound."""
        self._check_live(lease_id)
        rows = self._database.read(
            "SELECT digest FROM lease_resources WHERE lease = ? ORDER BY digest", (lease_id,)
        )
        return [parse(digest) for (digest,) in rows]

    def delete(self, lease_id: str) -> None:
        """End the lease. NotFound."""
        with self._database.transaction() as connection:
            if not connection.execute("DELETE FROM leases WHERE id = ?", (lease_id,)).rowcount:
                raise NotFound("lease", lease_id)

    def holders(self, digest: str, except_lease: str | None = None) -> list[Lease]:
        """The live leases that protect `digest`, oldest first, without `except_lease`."""
        rows = self._database.read(
            f"SELECT {_COLUMNS} FROM leases JOIN lease_resources ON lease = id"
            f" WHERE digest = ? AND {_LIVE} AND id IS NOT ? ORDER BY created_at, id",
            (parse(digest), self._clock(), except_lease),
        )
        return [_lease(row) for row in rows]

    def prune(self) -> int:
        """Remove the rows of expired leases; how many there were."""
        with self._database.transaction() as connection:
            return connection.execute(
                f"DELETE FROM leases WHERE NOT {_LIVE}", (self._clock(),)
            ).rowcount

    def list(self) -> list[Lease]:
        """The live leases, oldest first."""
        rows = self._database.read(
            f"SELECT {_COLUMNS} FROM leases WHERE {_LIVE} ORDER BY created_at, id", (self._clock(),)
        )
        return [_lease(row) for row in rows]

    def _check_live(self, lease_id: str) -> None:
        query = f"SELECT 1 FROM leases WHERE id = ? AND {_LIVE}"
        if not self._database.read(query, (lease_id, self._clock())):
            raise NotFound("lease", lease_id)


def _lease(row: tuple[str, float, float | None, str]) -> Lease:
    lease_id, created_at, expires_at, labels = row
    return Lease(lease_id, created_at, expires_at, json.loads(labels))

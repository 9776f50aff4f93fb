"""Leases of containerd, for as long as a block runs."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress

from engine.content.protocols import NO_LABELS
from engine.errors import EngineError
from engine.spec.digest import parse
from engine.stores.containerd.api import Leases
from engine.stores.containerd.transactions import EXPIRY, new_id
from engine.stores.protocols import LeaseManager
from engine.stores.records import Lease


class ContainerdLeases(LeaseManager):
    """The leases of a namespace. One whose process is killed ends by itself after a day."""

    def __init__(self, leases: Leases) -> None:
        super().__init__()
        self._leases = leases

    @contextmanager
    def hold(self, labels: Mapping[str, str] = NO_LABELS) -> Iterator[Lease]:
        lease = Lease(new_id(), time.time(), dict(labels))
        self._leases.create(lease.id, lease.labels, lease.created_at + EXPIRY)
        try:
            yield lease
        finally:
            with suppress(EngineError):
                self._leases.delete(lease.id)

    def add(self, lease_id: str, digest: str) -> None:
        self._leases.add(lease_id, parse(digest))

"""Leases of containerd, for as long as a block runs."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Final

from engine.content.protocols import NO_LABELS
from engine.errors import EngineError
from engine.spec.digest import parse
from engine.stores.containerd.api import Leases
from engine.stores.containerd.mirror import Mirror
from engine.stores.containerd.owner import is_abandoned, new_id
from engine.stores.protocols import LeaseManager
from engine.stores.records import Lease

_EXPIRY: Final = 24 * 3600.0
"""Seconds after which a lease ends by itself whose process has died."""


class ContainerdLeases(LeaseManager):
    """The leases of a namespace."""

    def __init__(self, leases: Leases, mirror: Mirror) -> None:
        super().__init__()
        self._leases = leases
        self._mirror = mirror

    @contextmanager
    def hold(self, labels: Mapping[str, str] = NO_LABELS) -> Iterator[Lease]:
        lease = Lease(new_id(), time.time(), dict(labels))
        self._leases.create(lease.id, lease.labels, lease.created_at + _EXPIRY)
        try:
            yield lease
        finally:
            with suppress(EngineError):
                self._leases.delete(lease.id)

    def add(self, lease_id: str, digest: str) -> None:
        name = parse(digest)
        self._leases.add(lease_id, name)
        self._mirror.check(name)  # it may have been collected since it was last asked for

    def drop_abandoned(self) -> None:
        """End the leases of processes of ours that have been killed."""
        for lease_id in filter(is_abandoned, self._leases.all()):
            self._leases.delete(lease_id)

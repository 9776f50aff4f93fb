"""Leases of containerd, for as long as a block runs.

A lease ends by itself some time after its process has died. One that is held for longer is renewed
before that: another lease takes its place, since containerd changes none.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from threading import Event, Lock, Thread
from typing import Final

import msgspec

from engine.content.protocols import NO_LABELS
from engine.errors import EngineError, NotFound
from engine.spec.digest import Digest, parse
from engine.stores.containerd.api import Leases
from engine.stores.containerd.mirror import Mirror
from engine.stores.containerd.owner import is_abandoned, new_id
from engine.stores.protocols import LeaseManager
from engine.stores.records import Lease

_EXPIRY: Final = 24 * 3600.0
"""Seconds after which a lease ends by itself whose process has died."""
_PERIOD: Final = 8 * 3600.0
"""Seconds between two renewals. One may fail, as while containerd is away."""


def expiry() -> float:
    """Return when a lease that begins now ends by itself, in seconds since the epoch."""
    return time.time() + _EXPIRY


class _Held(msgspec.Struct):
    """A lease that a block holds."""

    labels: Mapping[str, str]
    id: str
    """Its ID in containerd, another one after each renewal."""
    blobs: set[Digest] = set()


class ContainerdLeases(LeaseManager):
    """The leases of a namespace. Safe from any thread, and with a thread of its own once used."""

    def __init__(self, leases: Leases, mirror: Mirror) -> None:
        super().__init__()
        self._leases = leases
        self._mirror = mirror
        self._lock = Lock()
        self._blocks: dict[str, _Held] = {}
        """By the IDs that the blocks know."""
        self._closed = Event()
        self._thread: Thread | None = None

    def close(self) -> None:
        """End the thread. What is still held ends by itself."""
        self._closed.set()
        if self._thread is not None:
            self._thread.join()

    @contextmanager
    def hold(self, labels: Mapping[str, str] = NO_LABELS) -> Iterator[Lease]:
        held = _Held(dict(labels), self._create(labels))
        lease = Lease(held.id, time.time(), held.labels)
        with self._lock:
            self._blocks[lease.id] = held
            self._start()
        try:
            yield lease
        finally:
            with self._lock:
                del self._blocks[lease.id]
            with suppress(EngineError):
                self._leases.delete(held.id)

    def add(self, lease_id: str, digest: str) -> None:
        name = parse(digest)
        with self._lock:
            held = self._blocks.get(lease_id)
            if held is None:
                raise NotFound("lease", lease_id)
            self._leases.add(held.id, name)
            held.blobs.add(name)
        self._mirror.check(name)  # it may have been collected since it was last asked for

    def drop_abandoned(self) -> None:
        """End the leases of processes of ours that have been killed."""
        for lease_id in filter(is_abandoned, self._leases.all()):
            self._leases.delete(lease_id)

    def _create(self, labels: Mapping[str, str]) -> str:
        """Make a lease in containerd, and return its ID."""
        id_ = new_id()
        self._leases.create(id_, labels, expiry())
        return id_

    def _start(self) -> None:
        if self._thread is None:
            self._thread = Thread(target=self._renew_all, name="containerd leases", daemon=True)
            self._thread.start()

    def _renew_all(self) -> None:
        while not self._closed.wait(_PERIOD):
            with self._lock:
                ids = tuple(self._blocks)
            for lease_id in ids:
                with self._lock, suppress(EngineError):  # it is tried again
                    self._renew(lease_id)

    def _renew(self, lease_id: str) -> None:
        held = self._blocks.get(lease_id)
        if held is None:  # its block has ended since
            return
        id_ = self._create(held.labels)
        for digest in held.blobs:
            self._leases.add(id_, digest)
        old, held.id = held.id, id_
        self._leases.delete(old)

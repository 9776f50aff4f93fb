"""Transactions over a containerd, which has none for several names and blobs.

The blobs of a transaction are committed under a lease that ends with it, so that those of one that
fails, or whose process is killed, are collected. The names are kept back until the end, and sent
one after the other; if containerd refuses one, those before it are put back.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress

import msgspec

from engine.errors import EngineError
from engine.image import Image
from engine.stores.containerd.api import Images, Leases
from engine.stores.containerd.leases import expiry
from engine.stores.containerd.mirror import Remembered
from engine.stores.containerd.names import Names
from engine.stores.containerd.owner import new_id
from engine.stores.containerd.watch import Watch
from engine.stores.records import Event


class Pending(msgspec.Struct):
    """The changes of a transaction so far."""

    changes: dict[str, Image | None] = {}
    """By their names in containerd; None for one that is removed."""
    names: Names | None = None
    """All names with the changes, None while there are none."""
    events: list[Event] = []
    lease: str = ""
    """The lease of its blobs, "" while it has none."""

    def put(self, name: str, image: Image | None, names: Names) -> None:
        """Change a name in containerd; `names` are all as they were before this transaction."""
        self.changes[name] = image
        if self.names is None:
            self.names = names.copy()
        if image is None:
            self.names.remove(name)
        else:
            self.names.put(image)

    def part(self) -> Pending:
        """Return what a part of the transaction starts with."""
        names = self.names.copy() if self.names else None
        return Pending(dict(self.changes), names, list(self.events), self.lease)


class _Local(threading.local):
    pending: Pending | None = None


class Transactions:
    """The open transactions of a store, one a thread."""

    def __init__(
        self,
        images: Images,
        leases: Leases,
        stored: Remembered[Mapping[str, Image]],
        watch: Watch,
        on_events: Callable[[list[Event]], None],
    ) -> None:
        """`on_events` takes the events of a transaction that has ended well."""
        self._images = images
        self._leases = leases
        self._stored = stored
        self._watch = watch
        self._on_events = on_events
        self._local = _Local()
        self.sent = 0
        """The number of transactions of this process that have changed names."""

    @property
    def pending(self) -> Pending | None:
        """The changes of the calling thread's transaction, None outside of one."""
        return self._local.pending

    def lease(self) -> str:
        """Return the lease of the calling thread's transaction, which must be open."""
        pending = self._local.pending
        assert pending is not None
        if not pending.lease:
            pending.lease = new_id()
            self._leases.create(pending.lease, {}, expiry())
        return pending.lease

    @contextmanager
    def begin(self) -> Iterator[Pending]:
        """Enter a transaction, or a part of the calling thread's: as `Store.transaction`."""
        outer = self._local.pending
        if outer is not None:
            part = self._local.pending = outer.part()
            try:
                yield part
                outer.changes, outer.names, outer.events = part.changes, part.names, part.events
            finally:
                outer.lease = part.lease
                self._local.pending = outer
            return
        pending = self._local.pending = Pending()
        try:
            yield pending
            self._send(pending.changes)
            self._on_events(pending.events)
        except BaseException:
            self._end(pending, has_failed=True)
            raise
        finally:
            self._local.pending = None
        self._end(pending, has_failed=False)

    def _send(self, changes: Mapping[str, Image | None]) -> None:
        """Point names at their targets, then remove names; put all back if one is refused."""
        if not changes:
            return
        before = self._stored.get()
        done: list[str] = []
        try:
            for name in sorted(changes, key=lambda name: (changes[name] is None, name)):
                done.append(name)
                self._put(name, changes[name])
        except BaseException:
            for name in reversed(done):
                with suppress(EngineError):
                    self._put(name, before.get(name))
            raise
        finally:
            self.sent += 1
            self._watch.changed()

    def _put(self, name: str, image: Image | None) -> None:
        if image is None:
            self._images.delete(name)
        else:
            self._images.put(image)

    def _end(self, pending: Pending, has_failed: bool) -> None:
        """End the lease; after a failure wait until its blobs are collected."""
        if pending.lease:
            with suppress(EngineError):  # it ends by itself
                self._leases.delete(pending.lease, and_collect=has_failed)
            self._watch.changed()

"""A store as everything above it sees it: content, images, leases, events, and a transaction.

The names are containerd's (`core/content`, `core/images`, `core/leases`, `core/events`). Loading,
committing, saving and the mounted tree know these classes and no kind of store. A kind of store
implements their abstract methods, and overrides others for speed. The suites of `engine.testing`
prove that it keeps what they promise; `engine.stores.open` makes a store from a path.

Every method may be called from any thread. A change is one transaction, or a part of the caller's
`Store.transaction()`: all of it is done, or nothing.
"""

from __future__ import annotations

import os
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from engine.closing import Closing
from engine.content.protocols import NO_LABELS
from engine.content.tables import TableStore
from engine.errors import NotFound, StoreReadOnly, Unsupported
from engine.spec.digest import parse
from engine.stores.content import ContentStore
from engine.stores.images import ImageStore
from engine.stores.records import Event, Garbage, Lease

if TYPE_CHECKING:
    from engine.image import Image
    from engine.stores.referrers import Referrer

__all__ = ["ContentStore", "EventLog", "ImageStore", "LeaseManager", "NameLock", "Store"]


class LeaseManager:
    """Leases: what must not be collected although no image refers to it.

    These are those of a store that collects nothing. They protect nothing, and end with their
    block.
    """

    def __init__(self) -> None:
        self._held: set[str] = set()

    @contextmanager
    def hold(self, labels: Mapping[str, str] = NO_LABELS) -> Iterator[Lease]:
        """Return a lease for as long as the block runs and this process lives."""
        lease = Lease(os.urandom(16).hex(), time.time(), labels)
        self._held.add(lease.id)
        try:
            yield lease
        finally:
            self._held.remove(lease.id)

    def add(self, lease_id: str, digest: str) -> None:
        """Protect a digest, stored or not, by a lease.

        Raise NotFound if the lease is gone, InvalidDigest.
        """
        parse(digest)
        if lease_id not in self._held:
            raise NotFound("lease", lease_id)


class EventLog(ABC):
    """The events of images, in the order of the changes."""

    @abstractmethod
    def _append(
        self, action: str, target: str, name: str, reclaimed: int | None, error: str | None
    ) -> None:
        """Record an event with the next number and the time; forget all but `EVENTS_KEPT`."""

    @abstractmethod
    def after(self, number: int = 0) -> list[Event]:
        """Return the events behind the one of that number."""

    @abstractmethod
    def last(self) -> int:
        """Return the number of the last event, 0 if there was none."""

    def add(self, action: str, target: str, name: str = "", reclaimed: int | None = None) -> None:
        """Record a change, as a part of its transaction."""
        self._append(action, target, name, reclaimed, None)

    def add_failure(self, file: str, reason: str) -> None:
        """Record that a file could not be loaded, and why."""
        self._append("load-failed", "", _valid(file), None, _valid(reason))


class NameLock:
    """The lock that a change of names waits for while a kernel may keep the old ones.

    This one lets no kernel keep a name.
    """

    def hold(self) -> bool:
        """Take the lock, shared with other holders; return False if names may not be kept."""
        return False

    def release(self) -> None:
        """Release the lock, if it is held."""


class Store(Closing, ABC):
    """One store, open."""

    location: str
    """The path or URL that the store was opened by."""
    directory: Path
    """A directory for temporary files."""
    content: ContentStore
    tables: TableStore
    """The tables of the layers in `content`, which are removed with them."""
    images: ImageStore
    leases: LeaseManager
    events: EventLog
    name_lock: NameLock
    supports_collection = False
    """Whether `garbage` and `collect` can be called."""
    supports_changes = True
    """Whether the store can be written to."""

    @property
    def disk(self) -> Path:
        """A directory on the disk that blobs take space on, for `statfs`."""
        return self.directory

    @abstractmethod
    def transaction(self) -> AbstractContextManager[object]:
        """Return a block whose changes happen together when it ends, or not at all if it raises."""

    @abstractmethod
    def version(self) -> int:
        """Return a number that is another one once anything in the store has changed."""

    def referrers(self, image: Image) -> Sequence[Referrer]:
        """Return the manifests whose subject is an image, or a manifest below it, and those whose
        subject is one of these, each behind its subject.

        Each is recorded. Raise Unreachable.
        """
        from engine.stores.referrers import find_referrers  # few commands need it

        return find_referrers(self, image)

    def garbage(self) -> Iterator[Garbage]:
        """Yield what `collect` would remove."""
        raise Unsupported(self.location, "its own system collects what nothing needs")

    def collect(self) -> Iterator[Garbage]:
        """Remove what nothing needs, and yield it as it goes."""
        return self.garbage()

    def check_changes(self) -> None:
        """Raise StoreReadOnly if the store cannot be written to."""
        if not self.supports_changes:
            raise StoreReadOnly(self.location)


def _valid(text: str) -> str:
    """Return text that can be stored: a file name may be invalid as text, and a reason quote it."""
    return text.encode(errors="replace").decode()

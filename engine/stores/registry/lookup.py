"""Look-ups of names: the answers of the registry, kept in the cache and fresh for a moment."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Final

from engine.errors import NotFound, Unreachable
from engine.stores.registry.events import unchanged_since_now
from engine.stores.registry.listing import KEPT_SECONDS, ShortMemory

if TYPE_CHECKING:
    from engine.image import Image
    from engine.stores.protocols import EventLog
    from engine.stores.registry.api import Reading
    from engine.stores.registry.cached_images import CachedImages
    from engine.stores.registry.location import Location
    from engine.stores.registry.puller import Puller

_PATIENCE: Final = 0.5
"""Seconds that a cached name waits for a registry that has not answered yet."""
_LONGER_PATIENCE: Final = 3.0
"""Seconds that any other name waits for it."""


class Lookup:
    """The look-ups of a store, by full names. Safe from any thread."""

    def __init__(
        self,
        cached: CachedImages,
        reading: Reading,
        location: Location,
        puller: Puller,
        events: EventLog,
    ) -> None:
        self._cached = cached
        self._reading = reading
        self._location = location
        self._puller = puller
        self._events = events
        self._fresh = ShortMemory[str, str](KEPT_SECONDS)
        """Digests of targets at the registry, by name; "" for nothing. A name that the cache has
        otherwise is not fresh: its look-up was rolled back.
        """

    def is_online(self) -> bool:
        """Return whether the registry answers, and soon."""
        return self._reading.client.is_reachable(_PATIENCE)

    def find(self, full: str) -> Image | None:
        """Return what a name stands for; while the registry does not answer, what is known. Raise
        Unreachable if nothing is.
        """
        while True:
            known = self._cached.find(full)
            if self._fresh.get(full) == _digest_of(known):
                return known
            client = self._reading.client
            if not client.is_reachable(_LONGER_PATIENCE if known is None else _PATIENCE):
                if known is None:
                    raise Unreachable(self._location.url, "does not answer")
                return known
            is_current = unchanged_since_now(self._events, full)
            found = self._asked(full, known, is_current)
            if is_current():
                return found

    def forget(self, names: Iterable[str]) -> None:
        """Ask for names again from now on."""
        for name in names:
            self._fresh.drop(name)

    def note(self, changes: Mapping[str, Image | None]) -> None:
        """Remember what the registry has accepted, as far as the cache has it too."""
        for name, image in changes.items():
            if _digest_of(self._cached.find(name)) == _digest_of(image):
                self._fresh.put(name, _digest_of(image))

    def _asked(
        self, full: str, known: Image | None, is_current: Callable[[], bool]
    ) -> Image | None:
        """Ask the registry what a name stands for; an answer that is not current any more changes
        nothing.
        """
        try:
            found = known
            if not (known and self._has_still(full, known)):
                found = self._puller.pull(full, is_current)
        except NotFound:
            self._puller.drop(full, is_current)
            found = None
        except Unreachable:
            if known is None:
                raise
            return known
        if is_current():
            self._fresh.put(full, _digest_of(found))
        return found

    def _has_still(self, full: str, known: Image) -> bool:
        """Return whether the registry says that a name stands for what is known, and known whole;
        raise NotFound.
        """
        if not self._puller.is_learnt(known):
            return False
        head = self._reading.head(self._location.repository(full), self._location.reference(full))
        return head == known.target.digest


def _digest_of(image: Image | None) -> str:
    """Return the digest of what a name stands for, "" for nothing."""
    return image.target.digest if image else ""

"""The events of a registry's names, in the cache, where every process of this machine reads them.

An event is written once the registry has accepted its transaction, and together with the names in
the cache. So an answer of the registry that was asked for before a name's last event, and comes
after it, is known to be older than the cache.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from engine.stores.protocols import EventLog
from engine.stores.records import Event
from engine.stores.registry.changes import Changes


class RegistryEvents(EventLog):
    """The events of the cache, each of which waits for the end of its transaction."""

    def __init__(self, cached: EventLog, changes: Changes) -> None:
        self._cached = cached
        self._changes = changes

    def _append(
        self, action: str, target: str, name: str, reclaimed: int | None, error: str | None
    ) -> None:
        if error is None:
            add = partial(self._cached.add, action, target, name, reclaimed)
        else:
            add = partial(self._cached.add_failure, name, error)
        with self._changes.transaction():
            self._changes.afterwards(add)

    def after(self, number: int = 0) -> list[Event]:
        return self._cached.after(number)

    def last(self) -> int:
        return self._cached.last()


def unchanged_since_now(events: EventLog, name: str) -> Callable[[], bool]:
    """Return a function that returns whether no event since now tells of a name."""
    last = events.last()
    return lambda: all(event.name != name for event in events.after(last))

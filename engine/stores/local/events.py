"""The events of the images of a store, with docker's names of actions.

Events are rows of the database, written in the transaction of the change that they report. So they
are in the order of the changes of all processes, and no event reports a change that was rolled
back. The last `EVENTS_KEPT` are kept.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, Final

from engine.stores.local.connection import check_types, damaged
from engine.stores.local.database import Database
from engine.stores.protocols import EventLog
from engine.stores.records import EVENTS_KEPT, Event

_SELECT: Final = "SELECT number, time_ns, action, target, name, reclaimed, error FROM events"
_TYPES: Final = (int, int, str, str, str)


class LocalEvents(EventLog):
    """The events of the store with `database`."""

    def __init__(self, database: Database, clock: Callable[[], int] = time.time_ns) -> None:
        self._database = database
        self._clock = clock

    def _append(
        self, action: str, target: str, name: str, reclaimed: int | None, error: str | None
    ) -> None:
        with self._database.transaction() as connection:
            added = connection.execute(
                "INSERT INTO events (time_ns, action, target, name, reclaimed, error)"
                " VALUES (?, ?, ?, ?, ?, ?)",
                (self._clock(), action, target, name, reclaimed, error),
            )
            connection.execute(
                "DELETE FROM events WHERE number <= ?", ((added.lastrowid or 0) - EVENTS_KEPT,)
            )

    def after(self, number: int = 0) -> list[Event]:
        return self._events("number > ? ORDER BY number", number)

    def at(self, number: int) -> Event | None:
        return next(iter(self._events("number = ?", number)), None)

    def last(self) -> int:
        rows = self._database.read("SELECT seq FROM sqlite_sequence WHERE name = 'events'")
        return int(rows[0][0]) if rows else 0

    def _events(self, condition: str, number: int) -> list[Event]:
        rows = self._database.read(f"{_SELECT} WHERE {condition}", (number,))
        return [self._event(row) for row in rows]

    def _event(self, row: tuple[Any, ...]) -> Event:
        """Return a row as a value; raise StoreDamaged."""
        reclaimed, error = row[5:]
        try:
            check_types(row[:5], _TYPES)
            if not (isinstance(reclaimed, int | None) and isinstance(error, str | None)):
                raise TypeError(row)
            return Event(*row)
        except TypeError as wrong:
            raise damaged(self._database.path, f"the row of event {row[0]}") from wrong

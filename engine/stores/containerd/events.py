"""The events of this process, in memory."""

from __future__ import annotations

import time
from collections import deque
from threading import Lock

from msgspec.structs import replace

from engine.stores.containerd.transactions import Transactions
from engine.stores.protocols import EventLog
from engine.stores.records import EVENTS_KEPT, Event


class RecentEvents:
    """The last events, numbered."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._last = 0
        self._events: deque[Event] = deque(maxlen=EVENTS_KEPT)

    def extend(self, events: list[Event]) -> None:
        with self._lock:
            for event in events:
                self._last += 1
                self._events.append(replace(event, number=self._last))

    def after(self, number: int) -> list[Event]:
        with self._lock:
            return [event for event in self._events if event.number > number]

    def last(self) -> int:
        return self._last


class ContainerdEvents(EventLog):
    """The changes that this process has made."""

    def __init__(self, recent: RecentEvents, transactions: Transactions) -> None:
        self._recent = recent
        self._transactions = transactions

    def _append(
        self, action: str, target: str, name: str, reclaimed: int | None, error: str | None
    ) -> None:
        with self._transactions.begin() as pending:
            pending.events.append(Event(0, time.time_ns(), action, target, name, reclaimed, error))

    def after(self, number: int = 0) -> list[Event]:
        return self._recent.after(number)

    def last(self) -> int:
        return self._recent.last()

"""Whether anything in a containerd has changed.

containerd tells of new and removed names by events, but of no blob that its collection removes. The
file of its metadata, which each change rewrites, tells of everything at once, and costs one stat;
where it cannot be read, events and a time limit stand in for it. The events tell in any case
whether containerd is there.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from threading import Event, Lock, Thread
from typing import Final

import msgspec

from engine.errors import StoreError
from engine.stores.containerd.api import Server

_TICK: Final = 0.02
"""Seconds within which the kernel may give two changes of a file the same time."""
_UNSEEN: Final = 1.0
"""Seconds for which an answer is good where the metadata cannot be looked at."""
_PAUSES: Final = (0.1, 2.0)
"""Seconds between two attempts to subscribe again, the shortest and the longest."""


class State(msgspec.Struct, frozen=True):
    """The state of a containerd at a moment.

    Equal states are one state of the store, if `is_final`; else only until the next look.
    """

    connection: int
    changes: int
    written_at: int
    is_final: bool


class Watch:
    """Looks for changes. Safe from any thread; it has a thread of its own once it is asked."""

    def __init__(
        self, server: Server, metadata: Path | None, clock: Callable[[], float] = time.time
    ) -> None:
        """`metadata` is the file of containerd's metadata, None if it is not known."""
        self._server = server
        self._metadata = metadata
        self._clock = clock
        self._lock = Lock()
        self._closed = Event()
        self._thread: Thread | None = None
        self._stop: Callable[[], None] = _nothing
        self._is_connected = False
        self._connection = 0
        self._changes = 0
        self._version = 0
        self._seen: tuple[int, int, int] | None = None

    def state(self) -> State | None:
        """Return the state as it is now; None while containerd does not answer."""
        self._start()
        if not self._is_connected:
            return None
        written_at, is_final = self._written()
        return State(self._connection, self._changes, written_at, is_final)

    def version(self) -> int:
        """Return a number that is another one once anything may have changed."""
        self._start()
        written_at, _ = self._written()
        with self._lock:
            seen = (self._connection, self._changes, written_at)
            if seen != self._seen:
                self._seen = seen
                self._version += 1
            return self._version

    def changed(self) -> None:
        """Note a change that this process has made."""
        with self._lock:
            self._changes += 1

    def close(self) -> None:
        """End the thread."""
        self._closed.set()
        self._stop()
        if self._thread is not None:
            self._thread.join()

    def _written(self) -> tuple[int, bool]:
        """Return the time of the last change of the metadata, and whether that is known exactly."""
        now = self._clock()
        if self._metadata is not None:
            with suppress(OSError):
                written_at = os.stat(self._metadata).st_mtime_ns
                return written_at, abs(now - written_at / 1e9) > _TICK
        return int(now / _UNSEEN), True

    def _start(self) -> None:
        with self._lock:
            if self._thread is None and not self._closed.is_set():
                self._thread = Thread(target=self._follow, name="containerd events", daemon=True)
                self._is_connected = True  # whoever opened the store has just had an answer
                self._thread.start()

    def _follow(self) -> None:
        pause = _PAUSES[0]
        while not self._closed.is_set():
            with suppress(StoreError):
                self._server.version()
                events = self._server.image_events()
                self._stop = events.cancel
                if self._closed.is_set():
                    events.cancel()
                self._connect(True)
                pause = _PAUSES[0]
                for _ in events:
                    self.changed()
            self._connect(False)
            self._closed.wait(pause)
            pause = min(2 * pause, _PAUSES[1])

    def _connect(self, is_connected: bool) -> None:
        with self._lock:
            self._is_connected = is_connected
            self._connection += 1


def _nothing() -> None:
    """Do nothing: there is no subscription yet."""

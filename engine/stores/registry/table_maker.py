"""Makes the tables of layers that were fetched whole, so that later their files can be read by
ranges although the layers have left the cache.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from contextlib import closing, suppress
from threading import Event, Lock, Thread
from typing import TYPE_CHECKING, Final

from engine.errors import EngineError

if TYPE_CHECKING:
    from engine.stores.local.store import LocalStore

_PAUSE: Final = 0.5
"""Seconds after which the thread looks again whether anything is fetched."""


class TableMaker:
    """A thread that works while nothing is fetched. Safe from any thread."""

    def __init__(self, cache: LocalStore, is_busy: Callable[[], bool]) -> None:
        """`is_busy` returns whether anything is fetched."""
        self._cache = cache
        self._is_busy = is_busy
        self._lock = Lock()
        self._waiting: deque[str] = deque()
        self._thread: Thread | None = None
        self._stopped = Event()

    def add(self, digest: str) -> None:
        """Make the table of a cached blob, if it is a layer that has none, sooner or later."""
        with self._lock:
            self._waiting.append(digest)
            if self._thread is None and not self._stopped.is_set():
                self._thread = Thread(target=self._run, name="tables", daemon=True)
                self._thread.start()

    def close(self) -> None:
        """Leave the tables that are not made yet to others, and wait for the thread."""
        self._stopped.set()
        with self._lock:
            thread = self._thread
        if thread is not None:
            thread.join()

    def _run(self) -> None:
        from engine.layers.layer import Layers  # most stores are closed before they fetch a blob

        cache = self._cache
        with closing(Layers(cache.content, cache.tables, cache.directory)) as layers:
            while (digest := self._next()) is not None:
                self._stopped.wait(_PAUSE)  # who has fetched it may be making its table
                with suppress(EngineError, OSError, _Stopped):
                    self._give_way()
                    layers.table(digest, self._give_way)

    def _next(self) -> str | None:
        """Return a digest; None, at which the thread ends, if there is none."""
        with self._lock:
            if self._waiting and not self._stopped.is_set():
                return self._waiting.popleft()
            self._thread = None
            return None

    def _give_way(self, _done: object = None) -> None:
        """Wait while anything is fetched; raise _Stopped if the store is being closed."""
        while self._is_busy() and not self._stopped.wait(_PAUSE):
            pass
        if self._stopped.is_set():
            raise _Stopped


class _Stopped(Exception):
    """The store is being closed."""

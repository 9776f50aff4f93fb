"""A hash of bytes that come in order, computed in another thread while the caller continues."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from threading import Condition
from typing import Final

from engine.hashing.threads import hashing_threads
from engine.hashing.updates import Update
from engine.spec.digest import Digest, from_hash, hasher
from engine.threads import WORTH_IT

_AHEAD: Final = 4 << 20
"""Bytes that may wait to be hashed."""


class RunningHash:
    """The hash of the bytes so far; for one thread at a time."""

    is_begun = is_urgent = True

    def __init__(self, algorithm: str) -> None:
        self._algorithm = algorithm
        self._hash = hasher(algorithm)
        """Belongs to the thread that hashes, while `_is_running`."""
        self._changed = Condition()
        """Its lock protects the rest."""
        self._waiting: deque[memoryview] = deque()
        self._size = 0
        self._is_running = False

    def update(self, data: memoryview) -> None:
        """Add bytes; a copy of them if they are not of a `bytes` object, since they may change."""
        with self._changed:
            self._changed.wait_for(lambda: self._size < _AHEAD)
            if not self._is_running and len(data) < WORTH_IT:
                self._hash.update(data)
                return
            self._waiting.append(data if type(data.obj) is bytes else memoryview(data.tobytes()))
            self._size += len(data)
            if self._is_running:
                return
            self._is_running = True
        hashing_threads().begin(self)

    def digest(self) -> Digest:
        """Return the digest of all bytes so far."""
        with self._changed:
            self._changed.wait_for(lambda: not self._is_running)
            return from_hash(self._algorithm, self._hash)

    @property
    def left(self) -> int:
        """The number of bytes that wait to be hashed."""
        return self._size

    def parts(self) -> Iterator[Update | None]:
        """Hash the bytes that wait; for `HashingThreads`."""
        while (data := self._next()) is not None:
            yield Update(self._hash, data)
            with self._changed:
                self._size -= len(data)
                self._changed.notify_all()

    def _next(self) -> memoryview | None:
        with self._changed:
            if self._waiting:
                return self._waiting.popleft()
            self._is_running = False
            self._changed.notify_all()
            return None

"""Work that many threads may ask for at once, and one of them does."""

import threading
from collections import Counter
from collections.abc import Hashable, Iterator
from contextlib import contextmanager


class Turns:
    """Lets one thread at a time do the work of a key; the others then find what it has made."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._locks: dict[Hashable, threading.Lock] = {}
        self._users = Counter[Hashable]()

    @contextmanager
    def of(self, key: Hashable) -> Iterator[None]:
        """Wait until no other thread does the work of this key, and have the turn."""
        with self._lock:
            lock = self._locks.setdefault(key, threading.Lock())
            self._users[key] += 1
        try:
            with lock:
                yield
        finally:
            with self._lock:
                self._users[key] -= 1
                if not self._users[key]:
                    del self._users[key], self._locks[key]

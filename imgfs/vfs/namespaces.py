"""Namespaces that exist although no image is below them. Safe from any thread.

Normally a namespace exists because an image is below it. There are two exceptions: `mkdir` makes a
namespace for an image that is moved there next, and programs like `rm -r` remove a directory after
the images in it.
"""

import threading
import time
from collections.abc import Callable

PATIENCE = 60.0
"""Seconds for which a namespace can be removed after its last image."""


class Namespaces:
    """The namespaces without an image; each path has a slash at its end."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        """`clock` returns seconds, like `time.monotonic`."""
        self._clock = clock
        self._lock = threading.Lock()
        self._made: frozenset[str] = frozenset()
        self._emptied: dict[str, float] = {}

    def make(self, path: str) -> None:
        """Add a namespace, which exists until it is removed, or filled and emptied."""
        with self._lock:
            self._made |= {path}

    def filled(self, path: str) -> None:
        """Note that there is an image at or below a path, so its namespaces need no entry here."""
        if self._made:
            with self._lock:
                self._made = frozenset(made for made in self._made if not path.startswith(made))

    def emptied(self, path: str) -> None:
        """Note that the image at a path was removed file by file, so its namespaces may be next."""
        parts = path.split("/")[:-1]
        with self._lock:
            now = self._clock()
            self._emptied = {known: until for known, until in self._emptied.items() if until > now}
            for depth in range(1, len(parts) + 1):
                self._emptied["/".join(parts[:depth]) + "/"] = now + PATIENCE

    def remove(self, path: str) -> None:
        """Remove a namespace without an image."""
        with self._lock:
            self._made -= {path}
            self._emptied.pop(path, None)

    def exists(self, path: str) -> bool:
        """Return whether a namespace exists even if it has no image."""
        if any(made.startswith(path) for made in self._made):
            return True
        until = self._emptied.get(path)
        return until is not None and self._clock() < until

    def below(self, prefix: str) -> set[str]:
        """Return the names of the namespaces to list in the directory at `prefix`."""
        made = (path[len(prefix) :] for path in self._made if path.startswith(prefix))
        return {rest.partition("/")[0] for rest in made if rest}

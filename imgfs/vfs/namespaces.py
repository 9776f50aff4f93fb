"""Directories of names that exist although no image is below them. Safe from any thread.

A namespace is there because an image is. Two kinds of programs need more: `mkdir` makes one for an
image to be moved into, and what removes a directory with everything in it removes it last, when its
images have gone already.
"""

import threading
import time
from collections.abc import Callable

PATIENCE = 60.0
"""Seconds that a namespace can still be removed after its last image was."""


class Namespaces:
    """The paths of namespaces without an image, each with a slash at its end."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        """`clock` tells seconds."""
        self._clock = clock
        self._lock = threading.Lock()
        self._made: frozenset[str] = frozenset()
        self._emptied: dict[str, float] = {}

    def make(self, path: str) -> None:
        """Let a namespace exist until it has been filled and emptied, or is removed."""
        with self._lock:
            self._made |= {path}

    def filled(self, path: str) -> None:
        """An image is now at a path, or below it: the namespaces above it exist by that."""
        if self._made:
            with self._lock:
                self._made = frozenset(made for made in self._made if not path.startswith(made))

    def emptied(self, path: str) -> None:
        """The image at a path was removed entry by entry, so its namespaces may be next."""
        parts = path.split("/")[:-1]
        with self._lock:
            now = self._clock()
            self._emptied = {known: until for known, until in self._emptied.items() if until > now}
            for depth in range(1, len(parts) + 1):
                self._emptied["/".join(parts[:depth]) + "/"] = now + PATIENCE

    def remove(self, path: str) -> None:
        """End a namespace that has no image."""
        with self._lock:
            self._made -= {path}
            self._emptied.pop(path, None)

    def exists(self, path: str) -> bool:
        """Whether a namespace can be found even if it has no image."""
        if any(made.startswith(path) for made in self._made):
            return True
        until = self._emptied.get(path)
        return until is not None and self._clock() < until

    def below(self, prefix: str) -> set[str]:
        """The names of those that are listed in the directory at `prefix`."""
        made = (path[len(prefix) :] for path in self._made if path.startswith(prefix))
        return {rest.partition("/")[0] for rest in made if rest}

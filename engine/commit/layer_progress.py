"""The progress of the layers of a commit, which several threads make at a time."""

from collections.abc import Callable
from threading import Lock

from engine.commit.source import Progress
from engine.progress import Done

LAYERS = "exporting layers"


class Stopped(Exception):
    """The layers are no longer wanted, since another one has failed or the commit has ended."""


class LayerProgress:
    """The bytes of new layers before their compression; safe from any thread.

    After `stop`, the threads that still make layers fail at their next block.
    """

    def __init__(self, on_step: Progress, on_bytes: Callable[[Done], object]) -> None:
        self._on_step = on_step
        self._on_bytes = on_bytes
        self._lock = Lock()
        self._read = 0
        self._expected = 0
        self._made = 0
        self._is_stopped = False
        on_step(LAYERS, 0)

    def expect(self, size: int) -> None:
        """Add the estimated size of a layer to the total; raise Stopped."""
        with self._lock:
            self._check()
            self._expected += size

    def add(self, size: int) -> None:
        """Count bytes of a layer; raise Stopped."""
        with self._lock:
            self._check()
            self._read += size
            self._on_step(LAYERS, self._read)
            total = max(self._expected, self._read) if self._expected else None
            self._on_bytes(Done(self._read, total, self._made))

    def stop(self) -> None:
        """Let all further blocks raise Stopped."""
        self._is_stopped = True

    def made(self) -> None:
        """Count a layer that is whole."""
        with self._lock:
            self._made += 1

    def end(self) -> None:
        """Report that all layers are whole."""
        self._on_bytes(Done(self._read, self._read, self._made, self._made))

    def _check(self) -> None:
        if self._is_stopped:
            raise Stopped

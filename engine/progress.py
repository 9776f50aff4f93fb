"""Progress reports of long operations."""

from collections.abc import Callable

import msgspec


class Done(msgspec.Struct, frozen=True):
    """The bytes and layers processed so far, and their totals; a total is None while unknown."""

    size: int
    total: int | None = None
    layers: int = 0
    total_layers: int | None = None


Progress = Callable[[Done], object]


def ignore(_done: Done) -> None:
    """Discard the report."""


class Counted:
    """The bytes processed so far, reported with their total at each addition."""

    def __init__(self, total: int, on_progress: Progress) -> None:
        self._done = 0
        self._total = total
        self._on_progress = on_progress

    def add(self, size: int) -> None:
        self._done += size
        self._on_progress(Done(self._done, self._total))

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

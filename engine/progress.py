"""How far a long piece of work is."""

from collections.abc import Callable

import msgspec


class Done(msgspec.Struct, frozen=True):
    """Bytes and layers so far, and how many there will be; None where nobody knows."""

    size: int
    total: int | None = None
    layers: int = 0
    all_layers: int | None = None


Progress = Callable[[Done], object]


def ignore(_done: Done) -> None:
    """For whoever does not want to know."""

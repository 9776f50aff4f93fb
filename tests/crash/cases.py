"""One operation that is made to fail, again and again, each time in a place of its own."""

import os
import random
import sys
from collections.abc import Sequence
from itertools import count
from pathlib import Path
from typing import TypeVar

from tests.crash.judge import judge_of
from tests.crash.operations import Operation, Place

ROUNDS = int(os.environ.get("IMGFS_CRASH_ROUNDS", "1"))
"""How long everything here is to be."""
T = TypeVar("T")


class Case:
    """An operation in a directory `room`."""

    def __init__(self, operation: Operation, room: Path) -> None:
        self.operation = operation
        self.room = room
        self._place = operation.prepare(room / "place")
        self.judge = judge_of(operation, self._place, room / "done")
        self._numbers = count()

    def victim(self) -> Place:
        """A new place in which it can begin."""
        return self._place.copy(self.room / f"{next(self._numbers)}")

    def command(self, place: Place) -> list[str]:
        """The operation as a process of its own."""
        return [sys.executable, "-B", "-m", "imgfs", *self.operation.arguments(place)]


def drawn(moments: Sequence[T], number: int) -> list[T]:
    """So many of them at random, the first and the last among them; or all."""
    if number >= len(moments):
        return list(moments)
    chosen = random.Random(len(moments)).sample(range(1, len(moments) - 1), number - 2)
    return [moments[0], *(moments[i] for i in sorted(chosen)), moments[-1]]

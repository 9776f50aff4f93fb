"""An operation that is interrupted again and again, each time in a new place."""

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
"""The factor for the length of every test here."""
T = TypeVar("T")


class Case:
    """An operation in the directory `room`."""

    def __init__(self, operation: Operation, room: Path) -> None:
        self.operation = operation
        self.room = room
        self._place = operation.prepare(room / "place")
        self.judge = judge_of(operation, self._place, room / "done")
        self._numbers = count()

    def victim(self) -> Place:
        """Create a place in which the operation can begin."""
        return self._place.copy(self.room / f"{next(self._numbers)}")

    def command(self, place: Place) -> list[str]:
        """Return the operation as the command of a process."""
        return [sys.executable, "-B", "-m", "imgfs", *self.operation.arguments(place)]


def sample(moments: Sequence[T], number: int) -> list[T]:
    """Return `number` of the moments at random, with the first and the last; or all if there are
    fewer.
    """
    if number >= len(moments):
        return list(moments)
    chosen = random.Random(len(moments)).sample(range(1, len(moments) - 1), number - 2)
    return [moments[0], *(moments[i] for i in sorted(chosen)), moments[-1]]

"""Open files and directories, by the number that the kernel gives back, never used twice."""

import itertools
from typing import Generic, TypeVar

T = TypeVar("T")


class Handles(Generic[T]):
    """What is open, of one kind."""

    def __init__(self) -> None:
        self._numbers = itertools.count(1)
        self._open: dict[int, T] = {}

    def add(self, thing: T) -> int:
        number = next(self._numbers)
        self._open[number] = thing
        return number

    def get(self, number: int) -> T:
        return self._open[number]

    def remove(self, number: int) -> T:
        return self._open.pop(number)

    def __len__(self) -> int:
        return len(self._open)

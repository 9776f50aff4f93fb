"""Work that does not hash by itself, so that a thread can hash for two pieces of work at a time."""

from __future__ import annotations

from collections.abc import Generator
from typing import NamedTuple, TypeVar

from engine.hashing.sha256 import Hash

T = TypeVar("T")


class Update(NamedTuple):
    """Bytes that a hash is to be updated with, and that stay as they are until then."""

    hash: Hash
    data: memoryview

    def apply(self) -> None:
        """Hash the bytes."""
        self.hash.update(self.data)


Hashing = Generator[Update, None, T]
"""Work that yields what is to be hashed before it goes on, and returns a result."""


def hash_now(work: Hashing[T]) -> T:
    """Do work in this thread, and return its result or raise its error."""
    while True:
        try:
            next(work).apply()
        except StopIteration as end:
            result: T = end.value
            return result

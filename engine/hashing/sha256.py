"""SHA-256, of two streams at a time where the native library can be used (see `multi_buffer.c`)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Protocol

try:
    from engine.hashing import multi_buffer
except ImportError:  # another processor, or built without a compiler
    multi_buffer = None  # type: ignore[assignment]

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

AT_ONCE: Final[int] = 1 if multi_buffer is None else 2
"""The number of streams that a core hashes in the time of one."""


class Hash(Protocol):
    """A hash of bytes that come in order, as hashlib has them; for one thread at a time."""

    def update(self, data: ReadableBuffer, /) -> None:
        """Add bytes."""
        ...

    def hexdigest(self) -> str:
        """Return the hash of the bytes so far in lower-case hex."""
        ...


def new() -> Hash:
    """Return the hash of no bytes."""
    if multi_buffer is not None:
        return multi_buffer.Sha256()
    import hashlib  # late, since parsing names does not need OpenSSL

    return hashlib.new("sha256", usedforsecurity=False)


def update_both(one: Hash, data: memoryview, two: Hash, other_data: memoryview) -> None:
    """Add bytes to each of two different hashes, of SHA-256 or not; it takes least time if they are
    as many.
    """
    if (
        multi_buffer is not None
        and isinstance(one, multi_buffer.Sha256)
        and isinstance(two, multi_buffer.Sha256)
    ):
        multi_buffer.update_two(one, data, two, other_data)
    else:
        one.update(data)
        two.update(other_data)

"""The protocol of a compressor, which turns the bytes of a layer into those that are stored."""

from collections.abc import Callable, Sequence
from typing import Final, Protocol

from engine.compression.decompress import StreamPosition

Sink = Callable[[bytes | memoryview], object]

BLOCK: Final = 2 << 20
"""The number of bytes that a compressor works on best at a time."""


class Compressor(Protocol):
    """A compressor in progress; for one thread at a time.

    The buffer given to `write` must not change until `held` more blocks of BLOCK bytes have been
    written.
    """

    @property
    def held(self) -> int: ...

    @property
    def entrances(self) -> Sequence[StreamPosition]:
        """The positions within the stream so far behind which nothing refers to what is before."""

    def write(self, data: bytes | memoryview) -> None: ...

    def finish(self) -> None:
        """Write the rest to the sink; nothing may be written after it."""

    def close(self) -> None:
        """Stop the threads of the compressor; further calls do nothing."""

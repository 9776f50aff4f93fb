"""A buffer that collects bytes into blocks of one size and reuses a few blocks of memory.

The bytes of a file are read directly into a block.
"""

import os
from collections.abc import Callable

from engine.compression.compressor import BLOCK


class BlockBuffer:
    """A sequential buffer of bytes and of the content of files, for one thread at a time."""

    def __init__(self, sink: Callable[[memoryview], object], held: int) -> None:
        """Pass whole blocks to `sink`, and a last shorter one at the end.

        A block stays unchanged until `held` more blocks have been passed.
        """
        self._sink = sink
        self._count = held + 1
        self._filled: list[memoryview] = []
        self._block = memoryview(bytearray(BLOCK))
        self._at = 0

    def add(self, data: bytes | memoryview) -> None:
        size = len(data)
        end = self._at + size
        if end < BLOCK:
            self._block[self._at : end] = data
            self._at = end
            return
        rest = memoryview(data)
        while rest:
            part = rest[: BLOCK - self._at]
            self._block[self._at : self._at + len(part)] = part
            self._advance(len(part))
            rest = rest[len(part) :]

    def read(self, descriptor: int, size: int) -> int:
        """Add the next `size` bytes of a file; return the number missing because it ended."""
        while size:
            found = os.readv(descriptor, [self._block[self._at : min(self._at + size, BLOCK)]])
            if not found:
                break
            self._advance(found)
            size -= found
        return size

    def finish(self) -> None:
        """Pass the remaining bytes to the sink."""
        if self._at:
            self._sink(self._block[: self._at])
            self._at = 0

    def _advance(self, size: int) -> None:
        self._at += size
        if self._at == BLOCK:
            self._sink(self._block)
            self._filled.append(self._block)
            self._at = 0
            if len(self._filled) < self._count:
                self._block = memoryview(bytearray(BLOCK))
            else:
                self._block = self._filled.pop(0)

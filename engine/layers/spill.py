"""Uncompressed chunks in a temporary file, for layers that cannot be entered everywhere."""

import os
import tempfile
from collections import OrderedDict
from contextlib import suppress
from pathlib import Path
from typing import Final

from engine.layers.table import CHUNK

SPILLED: Final = 1 << 30
"""The largest size of the file in bytes."""


class Spill:
    """The chunks that were used last, in a file without a name; for one thread at a time.

    A chunk is lost if the disk is full. What the file returns is to be verified.
    """

    def __init__(self, directory: Path, size: int = SPILLED) -> None:
        """The file is in `directory`, and made with the first chunk."""
        self._directory = directory
        self._free = list(range(size // CHUNK))
        self._descriptor = -1
        self._closed = False
        self._found: OrderedDict[tuple[str, int], tuple[int, int]] = OrderedDict()
        """The slot and the size of each chunk."""

    def get(self, key: tuple[str, int]) -> bytes | None:
        """Return a chunk, None if it is not there."""
        if key not in self._found:
            return None
        self._found.move_to_end(key)
        slot, size = self._found[key]
        return os.pread(self._descriptor, size, slot * CHUNK)

    def put(self, key: tuple[str, int], data: bytes) -> None:
        """Keep a chunk, if there is space."""
        if key in self._found or self._closed:
            return
        if not self._free:
            self._free.append(self._found.popitem(last=False)[1][0])
        slot = self._free[-1]
        with suppress(OSError):
            if self._descriptor < 0:
                with tempfile.TemporaryFile(dir=self._directory) as file:
                    self._descriptor = os.dup(file.fileno())
            if os.pwrite(self._descriptor, data, slot * CHUNK) == len(data):
                self._found[key] = (self._free.pop(), len(data))

    def close(self) -> None:
        """Remove the file; nothing is kept after that."""
        self._closed = True
        self._found.clear()
        if self._descriptor >= 0:
            os.close(self._descriptor)

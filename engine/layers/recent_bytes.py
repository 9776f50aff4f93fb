"""The bytes that were written last, kept in memory for a reader that follows the writer."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from threading import Lock
from typing import Final

from engine.threads import WORTH_IT

Pread = Callable[[int, int], "bytes | memoryview"]
"""Return up to so many bytes at an offset."""

_KEPT: Final = 4 << 20
"""The most bytes that are kept."""


class RecentBytes:
    """The last bytes of a file that `pread` reads; for one writer and one reader in order."""

    def __init__(self, pread: Pread) -> None:
        self._pread = pread
        self._lock = Lock()
        self._pieces: deque[tuple[int, memoryview]] = deque()
        """Offsets and bytes that are still to be read."""
        self._size = 0

    def add(self, data: memoryview, offset: int) -> None:
        """Keep bytes that have been written at an offset, if they cannot change and there is room.

        Small pieces are read from the file, many at once.
        """
        with self._lock:
            if type(data.obj) is bytes and WORTH_IT <= len(data) <= _KEPT - self._size:
                self._pieces.append((offset, data[:]))
                self._size += len(data)

    def clear(self) -> None:
        """Keep nothing of what has been added."""
        with self._lock:
            self._pieces.clear()
            self._size = 0

    def pread(self, size: int, offset: int) -> bytes | memoryview:
        """Return up to `size` bytes at an offset, fewer also where a piece ends, and keep what is
        behind them only.
        """
        with self._lock:
            while self._pieces:
                start, piece = self._pieces[0]
                if offset < start:
                    size = min(size, start - offset)
                    break
                if offset + size < start + len(piece):
                    return piece[offset - start :][:size]
                self._pieces.popleft()
                self._size -= len(piece)
                if offset < start + len(piece):
                    return piece[offset - start :]
        return self._pread(size, offset)

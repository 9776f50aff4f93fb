"""A temporary file for the bytes that an upload receives ahead of a gap.

The file has no name, so it disappears with the process.
"""

import os
import tempfile
from pathlib import Path

_BATCH = 1 << 20


class GapSpool:
    """Spans of bytes, kept until the bytes before them arrive."""

    def __init__(self, directory: Path) -> None:
        self._file = tempfile.TemporaryFile(dir=directory, buffering=0)  # noqa: SIM115 (close() ends it)
        self._spans: dict[int, int] = {}

    def put(self, offset: int, data: bytes) -> None:
        """Keep bytes; they replace those that were put at the same offsets. OSError."""
        view = memoryview(data)
        written = 0
        while written < len(view):
            written += os.pwrite(self._file.fileno(), view[written:], offset + written)
        start, end = offset, offset + len(data)
        for low, high in list(self._spans.items()):
            if low <= end and start <= high:
                start, end = min(start, low), max(end, high)
                del self._spans[low]
        self._spans[start] = end

    def take(self, offset: int) -> bytes:
        """Return bytes from `offset` on, b"" if there are none, and drop those before it."""
        start = self.first
        if start is None or start > offset:
            return b""
        end = self._spans.pop(start)
        data = os.pread(self._file.fileno(), max(0, min(_BATCH, end - offset)), offset)
        if offset + len(data) < end:
            self._spans[offset + len(data)] = end
        return data or self.take(offset)

    @property
    def first(self) -> int | None:
        """The offset of the first byte, or None if there is none."""
        return min(self._spans, default=None)

    @property
    def end(self) -> int:
        """The offset after the last byte, 0 if there is none."""
        return max(self._spans.values(), default=0)

    def close(self) -> None:
        self._file.close()

"""A temporary file for the bytes that an upload receives ahead of a gap.

The file has no name, so it disappears with the process.
"""

import errno
import os
import tempfile
from bisect import bisect_left, bisect_right
from operator import itemgetter
from pathlib import Path

from engine.files import write_at

_BATCH = 1 << 20
_MOST = 100_000
"""The number of spans that may be kept, with gaps between them."""
_start, _end = itemgetter(0), itemgetter(1)


class GapSpool:
    """Spans of bytes, kept until the bytes before them arrive."""

    def __init__(self, directory: Path) -> None:
        self._file = tempfile.TemporaryFile(dir=directory, buffering=0)  # noqa: SIM115 (close() ends it)
        self._spans: list[tuple[int, int]] = []
        """The offsets of the first byte of each span and of the byte after it, in order."""

    def put(self, offset: int, data: bytes) -> None:
        """Keep bytes; they replace those that were put at the same offsets. Raise OSError, also
        (EFBIG) if there are too many gaps.
        """
        end = offset + len(data)
        first = bisect_left(self._spans, offset, key=_end)
        last = bisect_right(self._spans, end, key=_start)
        joined = self._spans[first:last]
        if not joined and len(self._spans) >= _MOST:
            raise OSError(errno.EFBIG, f"expected at most {_MOST} gaps in what has been written")
        write_at(self._file.fileno(), data, offset)
        if joined:
            offset, end = min(offset, joined[0][0]), max(end, joined[-1][1])
        self._spans[first:last] = [(offset, end)]

    def take(self, offset: int) -> bytes:
        """Return bytes from `offset` on, b"" if there are none, and drop those before it."""
        del self._spans[: bisect_right(self._spans, offset, key=_end)]
        if not self._spans or self._spans[0][0] > offset:
            return b""
        end = self._spans[0][1]
        data = os.pread(self._file.fileno(), min(_BATCH, end - offset), offset)
        taken = offset + len(data)
        self._spans[:1] = [(taken, end)] if taken < end else []
        return data

    @property
    def first(self) -> int | None:
        """The offset of the first byte, or None if there is none."""
        return self._spans[0][0] if self._spans else None

    @property
    def end(self) -> int:
        """The offset after the last byte, 0 if there is none."""
        return self._spans[-1][1] if self._spans else 0

    def close(self) -> None:
        self._file.close()

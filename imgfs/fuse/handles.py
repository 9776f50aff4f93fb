"""Tables of open files and directories, and files that threads read while they are closed."""

import errno
import itertools
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Generic, TypeVar

from imgfs.vfs.nodes import Reader

T = TypeVar("T")


class Handles(Generic[T]):
    """Open files or directories by number; a number is never used twice."""

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


class OpenReader:
    """An open reader that is safe to close in one thread while another uses it.

    The reader is closed when the last call of `open` or `read` has returned. Later calls raise
    OSError (EBADF).
    """

    def __init__(self) -> None:
        self._reader: Reader | None = None
        self._lock = threading.Lock()
        self._users = 0
        self._closed = False

    def open(self, opens: Callable[[], Reader]) -> None:
        """Set the reader to what `opens` returns; call this once."""
        with self._in_use():
            self._reader = opens()

    def read(self, offset: int, size: int) -> bytes:
        with self._in_use():
            assert self._reader is not None
            return self._reader.read(offset, size)

    def read_at_once(self, offset: int, size: int) -> bytes | memoryview | None:
        assert self._reader is not None
        return self._reader.read_at_once(offset, size)

    def fileno(self) -> int | None:
        """As `Reader.fileno`."""
        assert self._reader is not None
        return self._reader.fileno()

    def close(self) -> None:
        with self._lock:
            self._closed = True
        self._close_unused()

    @contextmanager
    def _in_use(self) -> Iterator[None]:
        with self._lock:
            if self._closed:
                raise OSError(errno.EBADF, "the file is closed")
            self._users += 1
        try:
            yield
        finally:
            with self._lock:
                self._users -= 1
            self._close_unused()

    def _close_unused(self) -> None:
        with self._lock:
            reader = self._reader if self._closed and not self._users else None
            self._reader = None if reader is not None else self._reader
        if reader is not None:
            reader.close()

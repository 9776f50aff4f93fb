"""Copies of files into a pipe, which gets the pages of the page cache instead of copies of them.

What is passed on can be checked. The pages of a file first enter an inner pipe; tee(2) adds them to
the output; and the bytes are then read from the inner pipe, so from the same pages. Between that
and the moment when the reader of the output takes them, only a program that writes into the file in
place could change them. Linux evicts no page that a pipe holds.
"""

import errno
import fcntl
import os
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import cache
from typing import Final

from engine.closing import Closing

_PIECE: Final = 256 << 10
"""Bytes that are passed on at a time; the check finds them in the cache of its core."""
_NOT_IN_THE_KERNEL: Final = {errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP, errno.EPERM}


class PipeCopy(Closing):
    """The copies of several files into one pipe; for one thread."""

    def __init__(self, output: int, on_copied: Callable[[int], object]) -> None:
        """`output` is the pipe; `on_copied` is called with the size of each piece in bytes."""
        self._output = output
        self._on_copied = on_copied
        self._inner: tuple[int, int] | None = None
        self._buffer = memoryview(b"")
        self._is_possible = True

    def close(self) -> None:
        """Close the inner pipe, but not the output."""
        if self._inner is not None:
            for descriptor in self._inner:
                os.close(descriptor)
            self._inner = None

    def pieces(self, source: int, end: int) -> Iterator[memoryview]:
        """Pass on the first `end` bytes of a file, and yield them; each piece until the next one.

        Yield fewer bytes if the file has fewer, or if Linux can pass on no more of its pages. Raise
        OSError; nothing can be passed on after that.
        """
        offset = 0
        while self._is_possible and offset < end:
            self._is_possible = False  # unless all goes well
            entered = self._enter(source, min(_PIECE, end - offset), offset)
            offset += entered
            while entered:
                if not (shared := self._share(entered)):
                    return
                piece = self._read(shared)
                entered -= shared
                self._on_copied(shared)
                yield piece
                self._is_possible = not entered

    def _enter(self, source: int, size: int, offset: int) -> int:
        """Let pages of a file enter the inner pipe; return the number of bytes, 0 for none."""
        if self._inner is None:
            self._inner = os.pipe()
            self._buffer = memoryview(bytearray(_PIECE))
            with suppress(OSError):  # pieces are smaller then
                fcntl.fcntl(self._inner[1], fcntl.F_SETPIPE_SZ, _PIECE)
        try:
            return os.splice(source, self._inner[1], size, offset_src=offset)
        except OSError as error:
            if error.errno in _NOT_IN_THE_KERNEL:
                return 0
            raise

    def _share(self, size: int) -> int:
        """Add pages of the inner pipe to the output; return the number of bytes, 0 for none."""
        assert self._inner is not None
        while True:
            try:
                return _tee()(self._inner[0], self._output, size)
            except InterruptedError:
                continue
            except OSError as error:
                if error.errno in _NOT_IN_THE_KERNEL:
                    return 0
                raise

    def _read(self, size: int) -> memoryview:
        """Take the first bytes out of the inner pipe."""
        assert self._inner is not None
        read = 0
        while read < size:
            read += os.readv(self._inner[0], [self._buffer[read:size]])
        return self._buffer[:size]


@cache
def _tee() -> Callable[[int, int, int], int]:
    """Return tee(2), which raises OSError; the module os lacks it."""
    from ctypes import CDLL, c_int, c_size_t, c_ssize_t, c_uint, get_errno

    function = CDLL(None, use_errno=True).tee
    function.argtypes = (c_int, c_int, c_size_t, c_uint)
    function.restype = c_ssize_t

    def tee(source: int, target: int, size: int) -> int:
        copied: int = function(source, target, size, 0)
        if copied < 0:
            number = get_errno()
            raise OSError(number, os.strerror(number))
        return copied

    return tee

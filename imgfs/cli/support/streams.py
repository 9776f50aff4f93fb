"""Prepare and close the standard streams of this process."""

import fcntl
import os
import stat
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from io import TextIOWrapper
from typing import BinaryIO

_PIPE_BYTES = 1 << 20
"""The largest size of a pipe for unprivileged users, as in pipe(7); the default is 64 KiB."""


def open_standard_streams() -> None:
    """Open the standard streams that the caller has closed, so that no other file gets their
    numbers: to read or print then fails, and errors are discarded. Make standard output escape the
    characters that it cannot encode.
    """
    for descriptor, mode in ((0, os.O_WRONLY), (1, os.O_RDONLY), (2, os.O_WRONLY)):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, mode)  # open() takes the lowest free number, which is this one
    sys.stdin = sys.stdin or os.fdopen(0, encoding="utf-8", closefd=False)
    sys.stdout = sys.stdout or os.fdopen(1, "w", encoding="utf-8", closefd=False)
    sys.stderr = sys.stderr or os.fdopen(2, "w", encoding="utf-8", closefd=False)
    if isinstance(sys.stdout, TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")


def widen(stream: BinaryIO) -> BinaryIO:
    """Enlarge the buffer of a pipe, so that its two ends wake each other less often."""
    with suppress(OSError):
        fcntl.fcntl(stream.fileno(), fcntl.F_SETPIPE_SZ, _PIPE_BYTES)
    return stream


def writer_to_standard_output() -> Callable[[bytes], object]:
    """Return a function that writes bytes to standard output, and names it in an OSError."""
    stream = widen(sys.stdout.buffer)

    def write(data: bytes) -> None:
        with naming_standard_output():
            write_all(stream.write, data)  # a stream without a buffer may take a part

    return write


@contextmanager
def naming_standard_output() -> Iterator[None]:
    """Let an OSError name standard output."""
    try:
        yield
    except OSError as error:
        error.filename = "standard output"
        raise


def pipe_of(stream: BinaryIO) -> int | None:
    """Return the descriptor of a stream that is a pipe and has nothing in its buffer, else None."""
    with suppress(OSError):
        descriptor = stream.fileno()
        if stat.S_ISFIFO(os.fstat(descriptor).st_mode):
            stream.flush()
            return descriptor
    return None


def write_all(write: Callable[[memoryview], int], data: bytes) -> None:
    """Write all bytes by a function that takes some of them, and returns how many."""
    rest = memoryview(data)
    while rest:
        rest = rest[write(rest) :]


def discard_unwritable() -> None:
    """Flush standard output, or discard the rest, so that Python prints no error at exit."""
    try:
        sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())

"""The standard streams of this process, fit for use."""

import fcntl
import os
import sys
from contextlib import suppress
from io import TextIOWrapper
from typing import BinaryIO

_PIPE_BYTES = 1 << 20
"""What everybody may make a pipe hold; it is 64 KiB at first."""


def open_standard_streams() -> None:
    """Open those that the caller has closed, so that no file of ours gets their numbers: to read or
    to print then fails, and errors go nowhere. What an output cannot encode is escaped.
    """
    for descriptor, mode in ((0, os.O_WRONLY), (1, os.O_RDONLY), (2, os.O_WRONLY)):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, mode)  # the lowest number that is free is this one
    sys.stdin = sys.stdin or os.fdopen(0, encoding="utf-8", closefd=False)
    sys.stdout = sys.stdout or os.fdopen(1, "w", encoding="utf-8", closefd=False)
    sys.stderr = sys.stderr or os.fdopen(2, "w", encoding="utf-8", closefd=False)
    if isinstance(sys.stdout, TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")


def widen(stream: BinaryIO) -> BinaryIO:
    """If it is a pipe, let it hold more, so that its two ends wake each other less often."""
    with suppress(OSError):
        fcntl.fcntl(stream.fileno(), fcntl.F_SETPIPE_SZ, _PIPE_BYTES)
    return stream


def discard_unwritable() -> None:
    """Forget what standard output has not taken, so that Python does not complain at its end."""
    try:
        sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())

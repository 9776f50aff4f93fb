"""SQLite over a fork.

SQLite counts its locks per process. A child inherits the counts and not the locks, so whatever it
does with a file that was open at the fork, on a connection of its own too, can damage it. Hence a
child leaves such a file alone, and never closes what it has inherited, since that may write. What
is kept here is global because it is so in SQLite.
"""

from __future__ import annotations

import os
import sqlite3
from pathlib import Path
from typing import Final
from weakref import WeakKeyDictionary

File = tuple[int, int] | None
"""Device and inode; None where there is no file."""

SENTENCE: Final = (
    "it was open when this process was forked; open it in one that was not (spawn, exec)"
)

_open: Final[WeakKeyDictionary[sqlite3.Connection, File]] = WeakKeyDictionary()
_inherited: Final[set[File]] = set()


def file_at(path: Path) -> File:
    """What is there now."""
    try:
        found = os.stat(path)
    except FileNotFoundError:
        return None
    return found.st_dev, found.st_ino


def opened(connection: sqlite3.Connection, file: File) -> None:
    """Tell of a connection; it counts as open until it is closed or gone."""
    _open[connection] = file


def closed(connection: sqlite3.Connection) -> None:
    """Tell that it is closed."""
    _open.pop(connection, None)


def is_inherited(file: File) -> bool:
    """Whether this process has inherited a connection to the file."""
    return file in _inherited


def _in_child() -> None:
    if not _open:
        return
    import ctypes  # a fork with an open store is rare

    for connection, file in list(_open.items()):
        _inherited.add(file)
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(connection))
    _open.clear()


os.register_at_fork(after_in_child=_in_child)

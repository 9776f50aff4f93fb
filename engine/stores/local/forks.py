"""The protection of SQLite databases from use in the child of a fork.

SQLite counts its locks per process. A child inherits the counts but not the locks, so any access to
a file that was open at the fork, even by a new connection, can damage it. Hence a child does not
use such a file, and never closes an inherited connection, since closing may write. The state of
this module is global because SQLite's is.
"""

from __future__ import annotations

import os
import sqlite3
from pathlib import Path
from typing import Final
from weakref import WeakKeyDictionary

File = tuple[int, int] | None
"""Device and inode of a file; None if it does not exist."""

SENTENCE: Final = (
    "it was open when this process was forked; open it in one that was not (spawn, exec)"
)

_open: Final[WeakKeyDictionary[sqlite3.Connection, File]] = WeakKeyDictionary()
_inherited: Final[set[File]] = set()


def file_at(path: Path) -> File:
    """Return the file that is at a path now."""
    try:
        found = os.stat(path)
    except FileNotFoundError:
        return None
    return found.st_dev, found.st_ino


def opened(connection: sqlite3.Connection, file: File) -> None:
    """Register a connection; it counts as open until it is closed or collected."""
    _open[connection] = file


def closed(connection: sqlite3.Connection) -> None:
    """Register that a connection is closed."""
    _open.pop(connection, None)


def is_inherited(file: File) -> bool:
    """Return whether this process has inherited a connection to the file."""
    return file in _inherited


def _in_child() -> None:
    if not _open:
        return
    import ctypes  # rarely needed: only after a fork with an open store

    for connection, file in list(_open.items()):
        _inherited.add(file)
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(connection))
    _open.clear()


os.register_at_fork(after_in_child=_in_child)

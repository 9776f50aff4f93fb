"""The file of a blob as it was when it was judged, so that a repair acts on that file alone."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

import msgspec


class FileVersion(msgspec.Struct, frozen=True):
    """A file at one time; a file that was changed, or put in its place, is another version."""

    inode: int
    size: int
    changed_ns: int


_UNREADABLE: Final = FileVersion(0, 0, 0)
"""The version of a file that the disk does not let us examine."""


def file_version(path: Path) -> FileVersion | None:
    """Return the version of the file that is there now, None if there is none."""
    try:
        status = os.lstat(path)
    except FileNotFoundError:
        return None
    except OSError:
        return _UNREADABLE
    return FileVersion(status.st_ino, status.st_size, status.st_ctime_ns)

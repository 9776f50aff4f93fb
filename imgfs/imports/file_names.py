"""The length of the names of files in `import/`, and of names that are made of them."""

import errno
import os

from engine.spec import digest
from imgfs.vfs.names import LONGEST

_MARK = 8
"""Hexadecimal digits that distinguish names that are cut."""


def check_length(name: str) -> None:
    """Raise OSError (ENAMETOOLONG) for a name that is too long for a file."""
    if len(os.fsencode(name)) > LONGEST:
        raise OSError(errno.ENAMETOOLONG, os.strerror(errno.ENAMETOOLONG))


def cut_for(suffix: str, name: str) -> str:
    """Return a name that has room for a suffix: `name` itself, or its beginning and a digest."""
    room = LONGEST - len(os.fsencode(suffix))
    encoded = os.fsencode(name)
    if len(encoded) <= room:
        return name
    mark = f"~{digest.of_bytes(encoded).encoded[:_MARK]}"
    while len(os.fsencode(name)) > room - len(mark):
        name = name[:-1]
    return f"{name}{mark}"

"""The members of a tar archive, and the rules by which their names refer to each other."""

import posixpath
from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

import msgspec

NO_XATTRS: Final[Mapping[str, bytes]] = MappingProxyType({})


class Member(msgspec.Struct, frozen=True, gc=False):
    """A member of a tar archive; `size` is that of its expanded data, in bytes.

    `kind` is "file", "dir", "symlink", "hardlink", "fifo", "character device", "block device", or
    "other", whose data the reader skips. Names are as recorded, with surrogate escapes for bytes
    that are not UTF-8. `mtime_ns` is in nanoseconds since the epoch, `device` is the major and
    minor number of a device.
    """

    name: str
    kind: str
    size: int
    linkname: str = ""
    mode: int = 0
    mtime_ns: int = 0
    uid: int = 0
    gid: int = 0
    device: tuple[int, int] = (0, 0)
    xattrs: Mapping[str, bytes] = NO_XATTRS


def clean_name(name: str) -> str | None:
    """Return a member's name relative to the root of the archive: "a/b" for "./a//b/", "" for ".".

    Return None for a name that leads outside the archive.
    """
    clean = posixpath.normpath(name.lstrip("/") or ".")
    if clean == ".." or clean.startswith("../"):
        return None
    return "" if clean == "." else clean


def resolve_link(name: str, target: str) -> str | None:
    """Return the target of the symlink `name` (a clean name) relative to the root of the archive.

    An absolute target starts at that root. Return None for a target outside the archive.
    """
    return clean_name(
        target if target.startswith("/") else posixpath.join(posixpath.dirname(name), target)
    )

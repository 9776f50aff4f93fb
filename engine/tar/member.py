"""A member of a tar archive, and how the names in an archive relate to each other."""

import posixpath
from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

import msgspec

NO_XATTRS: Final[Mapping[str, bytes]] = MappingProxyType({})


class Member(msgspec.Struct, frozen=True, gc=False):
    """An entry of a tar archive; `size` is what its data comes to, in bytes.

    `kind`: "file", "dir", "symlink", "hardlink", "fifo", "character device", "block device", or
    "other", which has its size but whose data is not told. Names are as they were written; bytes
    that are not UTF-8 are surrogate escapes. `mtime_ns` is nanoseconds since the epoch, `device`
    are the major and minor number of a device.
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
    """A member's name from the root of its archive: "./a//b/" is "a/b", "." is "".

    None for a name that leaves the archive.
    """
    clean = posixpath.normpath(name.lstrip("/") or ".")
    if clean == ".." or clean.startswith("../"):
        return None
    return "" if clean == "." else clean


def resolve_link(name: str, target: str) -> str | None:
    """What a symlink called `name` (a clean one) points at; an absolute target is in the archive.

    None for a target outside of it.
    """
    return clean_name(
        target if target.startswith("/") else posixpath.join(posixpath.dirname(name), target)
    )

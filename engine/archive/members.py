"""A member of a tar archive, and how the names in an archive relate to each other."""

import posixpath

import msgspec


class Member(msgspec.Struct, frozen=True, gc=False):
    """An entry of a tar archive; `size` is what its data comes to, in bytes.

    `kind`: "file", "dir", "symlink", "hardlink", "fifo", "character device", "block device", or
    "other", which has its size but whose data is not told. Names are as they were written; bytes
    that are not UTF-8 are surrogate escapes. `mtime` is whole seconds since the epoch.
    """

    name: str
    kind: str
    size: int
    linkname: str = ""
    mode: int = 0
    mtime: int = 0
    uid: int = 0
    gid: int = 0


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

"""The entries of a tree of files."""

import stat
from collections.abc import Mapping
from typing import Final

import msgspec

from engine.tar.member import NO_XATTRS as NO_XATTRS
from engine.units import NS_PER_SECOND

FILE_TYPES: Final[Mapping[str, int]] = {
    "file": stat.S_IFREG,
    "dir": stat.S_IFDIR,
    "symlink": stat.S_IFLNK,
    "fifo": stat.S_IFIFO,
    "character device": stat.S_IFCHR,
    "block device": stat.S_IFBLK,
}
"""The file type of each kind of entry, as in the mode that lstat returns."""


class HostFile(msgspec.Struct, frozen=True, gc=False):
    """The content of a file on disk.

    `device` and `inode` are those of the host and `changed` is its ctime in nanoseconds; together
    they identify the file in an unchanged state.
    """

    path: str
    device: int
    inode: int
    changed: int


class LayerSpan(msgspec.Struct, frozen=True, gc=False):
    """The content of a file in a layer, which is not empty.

    It is that of entry number `index` of layer number `layer`, counted from the lowest. `checksum`
    is its `FileChecksum`, as in the table of the layer.
    """

    layer: int
    index: int
    checksum: int


class FileEntry(msgspec.Struct, frozen=True, gc=False):
    """The attributes of one path, as lstat, readlink and getxattr return them.

    `kind` is "file", "dir", "symlink", "fifo", "character device" or "block device"; `mode` is the
    permissions with setuid, setgid and sticky bit; `size` is that of a file, in bytes; `linkname`
    is the target of a symlink; `device` is major and minor. Paths of one tree with the same `inode`
    other than 0 are hard links of one another. Text holds surrogate escapes for bytes that are not
    UTF-8.
    """

    kind: str
    mode: int = 0
    uid: int = 0
    gid: int = 0
    mtime_ns: int = 0
    size: int = 0
    linkname: str = ""
    device: tuple[int, int] = (0, 0)
    xattrs: Mapping[str, bytes] = NO_XATTRS
    inode: int = 0
    content: HostFile | LayerSpan | None = None


def same_time(before: int, after: int) -> bool:
    """Return whether two times in nanoseconds are equal, or equal in seconds while one of them has
    no fraction.
    """
    if before == after:
        return True
    is_precise = before % NS_PER_SECOND and after % NS_PER_SECOND
    return before // NS_PER_SECOND == after // NS_PER_SECOND and not is_precise

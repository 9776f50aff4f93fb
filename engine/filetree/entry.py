"""What a tree says of one file, whatever the tree is made of."""

from collections.abc import Mapping

import msgspec

from engine.tar.member import NO_XATTRS as NO_XATTRS


class HostFile(msgspec.Struct, frozen=True, gc=False):
    """A file's bytes on disk.

    `device` and `inode` are the host's, `changed` is its ctime in nanoseconds: they tell whether it
    is still the same file with the same bytes.
    """

    path: str
    device: int
    inode: int
    changed: int


class LayerSpan(msgspec.Struct, frozen=True, gc=False):
    """A file's bytes in a layer.

    `layer` counts from the lowest; `offset` is where the headers of its member begin in the
    uncompressed layer, in bytes: from there on a tar reader finds it first, sparse or not.
    `sha256` is the digest of the file's bytes.
    """

    layer: int
    offset: int
    sha256: bytes


class FileEntry(msgspec.Struct, frozen=True, gc=False):
    """What lstat and its friends tell of one path.

    `kind` is "file", "dir", "symlink", "fifo", "character device" or "block device"; `mode` are
    the permissions with setuid, setgid and sticky; `size` is a file's, in bytes; `linkname` a
    symlink's text; `device` are major and minor. Two paths of one tree that have the same `inode`,
    unless it is 0, are hard links of each other. Text holds surrogate escapes where bytes are
    not UTF-8.
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

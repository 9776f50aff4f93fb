"""Structures of the FUSE protocol, as <linux/fuse.h> declares them."""

from struct import Struct
from typing import Final

LOOKUP: Final = 1
GETATTR: Final = 3
READLINK: Final = 5
OPEN: Final = 14
READ: Final = 15
RELEASE: Final = 18
GETXATTR: Final = 22
LISTXATTR: Final = 23
OPENDIR: Final = 27
READDIR: Final = 28
RELEASEDIR: Final = 29
READDIRPLUS: Final = 44

OPEN_IN: Final = Struct("=II")
"""fuse_open_in: flags; open_flags."""
OPEN_OUT: Final = Struct("=QIi")
"""fuse_open_out: the handle; flags of the open file; the backing ID."""
KEEP_CACHE: Final = 1 << 1
NOFLUSH: Final = 1 << 5

READ_IN: Final = Struct("=QQI20x")
"""fuse_read_in: the handle, the offset, the size."""
RELEASE_IN: Final = Struct("=Q16x")
"""fuse_release_in: the handle."""
GETXATTR_IN: Final = Struct("=I4x")
"""fuse_getxattr_in: the size of the caller's buffer, 0 to ask for that of the value."""
GETXATTR_OUT: Final = Struct("=I4x")
"""fuse_getxattr_out: the size of the value."""

_ATTR = "6Q10I"
ATTR_OUT: Final = Struct(f"=QI4x{_ATTR}")
"""fuse_attr_out: the timeout of the attributes in seconds and nanoseconds; fuse_attr."""
ENTRY_OUT: Final = Struct(f"=QQQQII{_ATTR}")
"""fuse_entry_out: inode number, generation; timeouts of name and attributes in seconds, then in
nanoseconds; fuse_attr.
"""

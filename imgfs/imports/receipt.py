"""The attributes of an uploaded file."""

import errno
import stat
import time

import msgspec

from imgfs.vfs.nodes import AttributeChange, Attributes

RESERVED = "user.imgfs."
"""The prefix of the extended attributes that imgfs sets."""
_MAX_XATTRS = 64 << 10


class Receipt(msgspec.Struct):
    """The attributes that the writer of a file sets: owner, permissions, `mtime` in nanoseconds and
    extended attributes by their full names.
    """

    mode: int
    uid: int | None
    gid: int | None
    mtime: int
    xattrs: dict[str, bytes] = {}

    @classmethod
    def new(cls, mode: int, uid: int, gid: int) -> "Receipt":
        """Return the attributes of a file that is made now."""
        return cls(mode & 0o7777, uid, gid, time.time_ns())

    def of_new(self, mode: int) -> "Receipt":
        """Return the attributes of a file with the same owner and time."""
        return Receipt(mode, self.uid, self.gid, self.mtime)

    def copy(self) -> "Receipt":
        """Return equal attributes that change by themselves."""
        return Receipt(self.mode, self.uid, self.gid, self.mtime, dict(self.xattrs))

    def touch(self) -> None:
        """Set the time of the last change to now."""
        self.mtime = time.time_ns()

    def attributes(self, size: int) -> Attributes:
        """Return the attributes of a file of `size` bytes; the kernel must not cache them."""
        return Attributes(
            stat.S_IFREG | self.mode,
            size,
            self.mtime,
            uid=self.uid,
            gid=self.gid,
            block_size=1 << 20,
            timeout=0,
        )

    def change(self, change: AttributeChange) -> None:
        """Set every attribute of `change` but the size."""
        for name in ("mode", "uid", "gid", "mtime"):
            if (value := getattr(change, name)) is not None:
                setattr(self, name, value)

    def set_xattr(self, name: str, value: bytes) -> None:
        """Set an extended attribute that a copier takes over from its source.

        OSError: EOPNOTSUPP outside `user.`, EPERM for a reserved name, ENOSPC beyond 64 KiB.
        """
        if not name.startswith("user."):
            raise OSError(errno.EOPNOTSUPP, "only the user's attributes are kept")
        if name.startswith(RESERVED):
            raise OSError(errno.EPERM, "that attribute tells what became of the file")
        kept = sum(len(n) + len(v) for n, v in self.xattrs.items() if n != name)
        if kept + len(name) + len(value) > _MAX_XATTRS:
            raise OSError(errno.ENOSPC, "too many attributes")
        self.xattrs[name] = value

    def remove_xattr(self, name: str) -> None:
        """Remove an extended attribute; raise OSError (ENODATA) if there is none. Removing a
        reserved one is ignored, since copiers remove those that their source lacks.
        """
        if self.xattrs.pop(name, None) is None and not name.startswith(RESERVED):
            raise OSError(errno.ENODATA, "no such attribute")

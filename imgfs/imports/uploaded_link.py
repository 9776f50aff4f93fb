"""A symlink below a directory of `import/`."""

import errno
import stat
from typing import ClassVar

from imgfs.imports.receipt import Receipt
from imgfs.vfs.nodes import NEVER, AttributeChange, Attributes, ReadOnlyNode


class UploadedLink(ReadOnlyNode):
    """A symlink to a path of the same upload."""

    refusal: ClassVar[int] = errno.EPERM

    def __init__(self, key: str, target: bytes, receipt: Receipt) -> None:
        self.key = key
        self.receipt = receipt
        self._target = target

    def attributes(self) -> Attributes:
        made = self.receipt
        mode, size = stat.S_IFLNK | 0o777, len(self._target)
        return Attributes(mode, size, made.mtime, uid=made.uid, gid=made.gid, timeout=NEVER)

    async def set_attributes(self, change: AttributeChange, /) -> None:
        self.receipt.change(change)

    def readlink(self) -> bytes:
        return self._target

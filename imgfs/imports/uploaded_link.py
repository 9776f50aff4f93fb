"""A symlink below a directory of `import/`."""

import stat
from typing import TYPE_CHECKING

from imgfs.imports.receipt import Receipt
from imgfs.imports.uploaded_node import UploadedNode
from imgfs.vfs.nodes import NEVER, Attributes

if TYPE_CHECKING:
    from imgfs.imports.uploaded_directory import UploadedDirectory


class UploadedLink(UploadedNode):
    """A symlink to a path of the same upload."""

    def __init__(
        self, parent: "UploadedDirectory", name: str, target: bytes, receipt: Receipt
    ) -> None:
        super().__init__(parent.upload, parent, name, receipt)
        self._target = target

    def attributes(self) -> Attributes:
        made = self.receipt
        mode, size = stat.S_IFLNK | 0o777, len(self._target)
        return Attributes(mode, size, made.mtime, uid=made.uid, gid=made.gid, timeout=NEVER)

    def readlink(self) -> bytes:
        return self._target

"""Copies of files by the cheapest means that their file systems have.

A reflink shares the bytes of the source; a copy in the kernel spares the way through the process,
and on a network file system the network; where neither is possible the bytes are written.
"""

import errno
import fcntl
import os
from typing import Final

_FICLONE: Final = 0x40049409
"""linux/fs.h; fcntl has it since Python 3.12."""
_NOT_IN_THE_KERNEL: Final = {
    errno.EINVAL,
    errno.ENOSYS,
    errno.EOPNOTSUPP,
    errno.EPERM,
    errno.EXDEV,
}


class FileCopy:
    """A copy into an empty file of bytes that its maker reads, chunk by chunk.

    `source` is a file that holds exactly these bytes, None if there is none.
    """

    def __init__(self, source: int | None, target: int) -> None:
        self._source = source
        self._target = target
        self._offset = 0
        self._is_clone = source is not None and _clone(source, target)

    def put(self, chunk: bytes) -> None:
        """Copy the next bytes, which the caller has read: `chunk`."""
        rest = memoryview(chunk)
        while rest and not self._is_clone:
            copied = self._copy_range(len(rest)) or os.pwrite(self._target, rest, self._offset)
            self._offset += copied
            rest = rest[copied:]

    def _copy_range(self, length: int) -> int:
        """Copy up to `length` bytes in the kernel; return 0 if it does not."""
        if self._source is None:
            return 0
        try:
            return os.copy_file_range(
                self._source, self._target, length, self._offset, self._offset
            )
        except OSError as error:
            if error.errno not in _NOT_IN_THE_KERNEL:
                raise
            self._source = None
            return 0


def _clone(source: int, target: int) -> bool:
    try:
        fcntl.ioctl(target, _FICLONE, source)
    except OSError:
        return False
    return True

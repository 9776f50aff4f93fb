"""FUSE passthrough: the kernel reads a blob directly from the store's file.

It needs `native/passthrough.c`, Linux 6.9 and CAP_SYS_ADMIN. Without them reads are slower, and
nothing else changes.

The kernel allows one backing ID for an inode as long as the inode is open. So an inode keeps its ID
while it is open and for a moment after that. Then the ID is closed, because it keeps open the file
of a blob that may have been removed.
"""

import os
from pathlib import Path
from tempfile import TemporaryFile

import trio

from imgfs.fuse.native.library import BACKED, SUBJECTS, NativeLibrary, handle
from imgfs.fuse.open_files import OpenFile

_CAP_SYS_ADMIN = 1 << 21
_LINGER = 1.0
"""Seconds between the release of an inode and the close of its ID: enough for the kernel to receive
the reply to the release.
"""


class Backed(OpenFile):
    """An inode that the kernel reads from its backing file: the open file of all its handles."""

    def __init__(self, backing: int) -> None:
        self.backing = backing
        self.users = 0
        self.is_idle = False

    def opened(self, number: int) -> int:
        """Count one more open file; return its FUSE file handle, which names the backing ID."""
        self.users += 1
        self.is_idle = False
        return handle(BACKED, self.backing, number)

    async def release(self) -> None:
        """Count one open file less."""
        self.users -= 1


class Passthrough:
    """The inodes that the kernel reads from backing files. Call it from the event loop only."""

    def __init__(self, native: NativeLibrary | str, store: Path) -> None:
        """`native` is what `library.load` returned, or why it must not be used. Make this
        before the handshake with the kernel.
        """
        self._why = native if isinstance(native, str) else None
        self._native = None if isinstance(native, str) else native
        if self._native and not _capabilities() & _CAP_SYS_ADMIN:
            self._why = "CAP_SYS_ADMIN is needed"
        elif self._native:
            self._native.imgfs_passthrough_want()
        with TemporaryFile(dir=store) as file:
            self._probe = os.dup(file.fileno())
        self._backed: dict[int, Backed] = {}
        self._refused: set[int] = set()

    @property
    def status(self) -> str:
        """Return "on", or "off: " and the reason; known after the first request only."""
        why = self._reason()
        return f"off: {why}" if why else "on"

    def known(self, inode: int) -> Backed | None:
        """Return the inode if it has a backing ID already."""
        return self._backed.get(inode)

    def back(self, inode: int, descriptor: int, size: int) -> Backed | None:
        """Let the kernel read an inode from a file, which the caller may close afterwards.

        Return None if passthrough is off, the kernel refuses, or the file is not `size` bytes long.
        """
        if self._native is None or self._reason() or inode in self._refused:
            return None
        if inode not in self._backed:
            whole = os.fstat(descriptor).st_size == size
            backing = self._native.imgfs_backing_open(descriptor) if whole else 0
            if not 0 < backing < SUBJECTS:
                self._close(backing)
                self.refuse(inode)
                return None
            self._backed[inode] = Backed(backing)
        return self._backed[inode]

    def refuse(self, inode: int) -> None:
        """Note that an inode is read through imgfs, as a blob that is still being fetched is.

        The kernel forbids both ways of reading at a time, and would drop what it has cached.
        """
        if self._native is not None:
            self._refused.add(inode)

    def forget(self, inode: int) -> None:
        """Close the backing ID of an inode that the kernel has forgotten."""
        self._refused.discard(inode)
        if backed := self._backed.pop(inode, None):
            self._close(backed.backing)

    async def close_idle(self) -> None:
        """Close the backing IDs of inodes that are no longer open, until this is cancelled."""
        while True:
            await trio.sleep(_LINGER)
            for inode, backed in list(self._backed.items()):
                if backed.is_idle:
                    self.forget(inode)
                backed.is_idle = not backed.users

    def __len__(self) -> int:
        return len(self._backed)

    def _close(self, backing: int) -> None:
        if self._native is not None and backing > 0:
            self._native.imgfs_backing_close(backing)

    def _reason(self) -> str:
        if self._why is None:
            self._why = self._try()
        return self._why

    def _try(self) -> str:
        """Try passthrough with a file of the store; return why it is impossible, or ""."""
        assert self._native is not None
        if not self._native.imgfs_shook_hands():
            return "libfuse has answered the kernel's offer by itself"
        if not self._native.imgfs_passthrough_agreed():
            return "the kernel does not offer it (Linux 6.9 does)"
        backing = self._native.imgfs_backing_open(self._probe)
        self._close(backing)
        return f"the kernel refuses it: {os.strerror(-backing)}" if backing < 0 else ""


def _capabilities() -> int:
    status = Path("/proc/self/status").read_text(encoding="utf-8", errors="replace")
    (line,) = (line for line in status.splitlines() if line.startswith("CapEff:"))
    return int(line.split()[1], 16)

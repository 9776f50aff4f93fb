"""Kernel passthrough: the kernel reads a blob from the store's file itself, and asks nobody.

`passthrough.c` has the other half, which pyfuse3 and libfuse do not know of. Where that is not
built, where the kernel (Linux 6.9) or the privilege (CAP_SYS_ADMIN) is lacking, nothing changes
but speed.

The kernel takes one backing ID for an inode as long as anybody has that open. So an inode keeps its
ID until it has been closed for a while, not longer, since the ID holds the file of a blob that may
have been removed.
"""

import os
from pathlib import Path

import msgspec
import trio

from imgfs.fuse.native.library import BACKED, SUBJECTS, NativeLibrary, handle

_CAP_SYS_ADMIN = 1 << 21
_LINGER = 1.0
"""Seconds; by then the kernel has long heard that the release was answered."""


class Backed(msgspec.Struct):
    """An inode that the kernel reads by itself, and how many have it open."""

    backing: int
    users: int = 0
    is_idle: bool = False

    def opened(self, number: int) -> int:
        """One more has it open; the handle that tells the kernel so."""
        self.users += 1
        self.is_idle = False
        return handle(BACKED, self.backing, number)

    def closed(self) -> None:
        """One less has it open."""
        self.users -= 1


class Passthrough:
    """The inodes that the kernel reads by itself. One event loop calls this; nothing here awaits
    but `close_idle`.
    """

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
        self._probe = os.open(store / "version", os.O_RDONLY | os.O_CLOEXEC)
        self._backed: dict[int, Backed] = {}
        self._refused: set[int] = set()

    @property
    def status(self) -> str:
        """ "on", or "off: " and why. To be asked when a request has come, not before."""
        why = self._reason()
        return f"off: {why}" if why else "on"

    def known(self, inode: int) -> Backed | None:
        """An inode that can be opened without its file."""
        return self._backed.get(inode)

    def back(self, inode: int, descriptor: int, size: int) -> Backed | None:
        """Let an inode be read from a file, which need not stay open; None if that cannot be, be it
        that the file has not `size` bytes.
        """
        if self._native is None or self._reason() or inode in self._refused:
            return None
        if inode not in self._backed:
            whole = os.fstat(descriptor).st_size == size
            backing = self._native.imgfs_backing_open(descriptor) if whole else 0
            if not 0 < backing < SUBJECTS:
                self._close(backing)
                self._refused.add(inode)  # it cannot be read both ways at a time
                return None
            self._backed[inode] = Backed(backing)
        return self._backed[inode]

    def forget(self, inode: int) -> None:
        """The kernel has forgotten an inode."""
        self._refused.discard(inode)
        if backed := self._backed.pop(inode, None):
            self._close(backed.backing)

    async def close_idle(self) -> None:
        """Let go of what nobody has had open for a while, for ever."""
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
        """What is against it, if anything, found out with a file of the store."""
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

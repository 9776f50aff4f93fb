"""A blob that containerd reads for us, where its files cannot be read."""

from __future__ import annotations

from contextlib import ExitStack

from engine.closing import Closing
from engine.content.protocols import Info
from engine.stores.containerd.api import PIECE, Content
from engine.stores.protocols import LeaseManager


class RemoteReader(Closing):
    """A `ReaderAt` that asks containerd for each range of a large blob.

    It has a lease on the blob until it is closed, so that the blob outlives its image. A small blob
    is read at once.
    """

    def __init__(self, content: Content, info: Info, leases: LeaseManager) -> None:
        """Raise NotFound."""
        self._content = content
        self._digest = info.digest
        self.size = info.size
        self._data = b""
        with ExitStack() as held:
            if info.size <= PIECE:
                self._data = content.read(info.digest, 0, info.size) if info.size else b""
            else:
                lease = held.enter_context(leases.hold())
                leases.add(lease.id, info.digest)
                content.info(info.digest)
            self._held = held.pop_all()

    def pread(self, length: int, offset: int) -> bytes:
        if self.size <= PIECE:
            return self._data[offset : offset + length]
        length = min(length, self.size - offset)
        return self._content.read(self._digest, offset, length) if length > 0 else b""

    def fileno(self) -> None:
        """Return None: the file of the blob cannot be opened here."""

    def close(self) -> None:
        self._held.close()

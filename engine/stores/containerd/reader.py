"""A blob that containerd reads for us, where its files cannot be read."""

from __future__ import annotations

from engine.closing import Closing
from engine.spec.digest import Digest
from engine.stores.containerd.api import Content


class RemoteReader(Closing):
    """A `ReaderAt` that asks containerd for each range."""

    def __init__(self, content: Content, digest: Digest, size: int) -> None:
        self._content = content
        self._digest = digest
        self.size = size

    def pread(self, length: int, offset: int) -> bytes:
        length = min(length, self.size - offset)
        return self._content.read(self._digest, offset, length) if length > 0 else b""

    def fileno(self) -> None:
        """Return None: the file of the blob cannot be opened here."""

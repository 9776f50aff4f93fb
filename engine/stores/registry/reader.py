"""Readers of blobs that are not in the cache, or not yet.

A reader waits for the bytes of a download, and asks for those that are far ahead by a request of
its own, which nothing verifies.
"""

from threading import Lock
from typing import Final

from urllib3.exceptions import HTTPError

from engine.closing import Closing
from engine.errors import Unreachable
from engine.stores.registry.api import Reading
from engine.stores.registry.download import AHEAD, ATTEMPTS, PIECE, Download

_RANGE: Final = 1 << 20
"""Bytes that a request of a reader asks for at least."""


class RemoteReader(Closing):
    """An open blob that is not in the cache, or not yet; the download has counted it."""

    def __init__(self, download: Download, reading: Reading, is_whole: bool) -> None:
        """`is_whole` is whether a read of the beginning announces that of the whole blob."""
        self._is_whole = is_whole
        self.size = download.blob.size
        self._download = download
        self._reading = reading
        self._is_open = True
        self._lock = Lock()
        self._chunk = b""
        self._chunk_at = 0
        self._ranged = 0

    def pread(self, length: int, offset: int) -> bytes:
        length = max(0, min(length, self.size - offset))
        if not length:
            return b""
        if (self._is_whole and offset == 0) or self._ranged > min(AHEAD, self.size // 4):
            self._download.start()
        if self._download.is_started:
            data = self._download.pread(length, offset)
            if data is not None:
                return data
        return self._range(length, offset)

    def fileno(self) -> None:
        return None

    def close(self) -> None:
        if self._is_open:
            self._is_open = False
            self._download.leave()

    def _range(self, length: int, offset: int) -> bytes:
        """Return bytes by a request for a range around them; nothing verifies them."""
        with self._lock:
            start = offset - self._chunk_at
            if start >= 0 and start + length <= len(self._chunk):
                return self._chunk[start : start + length]
            size = min(max(length, _RANGE), self.size - offset)
            self._chunk, self._chunk_at = self._fetch(size, offset), offset
            self._ranged += size
            return self._chunk[:length]

    def _fetch(self, size: int, offset: int) -> bytes:
        client = self._reading.client
        for attempt in range(1, ATTEMPTS + 1):
            response = self._download.blob.request(offset, offset + size - 1)
            try:
                left = 0 if response.status == 206 else offset
                while left:
                    skipped = response.read(min(left, PIECE))
                    if not skipped:
                        break
                    left -= len(skipped)
                data = response.read(size)
                if len(data) == size and not left:
                    return data
            except HTTPError:
                pass
            finally:
                response.close()
            client.pause(attempt)
        raise Unreachable(client.location.url, f"breaks off {self._download.blob.digest}")

"""Readers of blobs that are not in the cache, or not yet.

A reader waits for the bytes of a download, and asks for those that are far ahead by a request of
its own, which nothing verifies. Whoever reads a blob from its beginning to its end, in order or
nearly (8 MiB, 256 pieces), has its digest checked: the bytes may come from several answers, and the
download may have been given up. In another order nothing checks the bytes of ranges.
"""

from threading import Lock
from typing import Final

from urllib3.exceptions import HTTPError

from engine.closing import Closing
from engine.content.running_hash import RunningHash
from engine.errors import DigestMismatch, Unreachable
from engine.spec.digest import parse
from engine.stores.registry.api import Reading
from engine.stores.registry.download import AHEAD, ATTEMPTS, PIECE, Download

_RANGE: Final = 1 << 20
"""Bytes that a request of a reader asks for at least."""
_EARLY: Final = 256
"""Pieces that are kept until those before them have been read, as by several threads."""


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
        self._handed_out = _HandedOut(download.blob.digest, self.size, AHEAD if is_whole else 0)

    def pread(self, length: int, offset: int) -> bytes:
        """Return bytes; the last of the whole blob only if all that were read are the right ones,
        else raise DigestMismatch.
        """
        length = max(0, min(length, self.size - offset))
        if not length:
            return b""
        data = self._read(length, offset)
        self._handed_out.add(data, offset)
        return data

    def _read(self, length: int, offset: int) -> bytes:
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


class _HandedOut:
    """The bytes that a reader has handed out, hashed from the beginning. Safe from any thread."""

    def __init__(self, digest: str, size: int, window: int) -> None:
        """`window` is the size of what is kept beyond the bytes that are hashed."""
        self._expected = parse(digest)
        self._size = size
        self._window = window
        self._lock = Lock()
        self._hash = RunningHash(self._expected.algorithm)
        self._end = 0
        """All bytes before it are hashed."""
        self._early: dict[int, bytes] = {}
        """Pieces beyond it, by their offsets."""

    def add(self, data: bytes, offset: int) -> None:
        """Count bytes, before they are handed out; raise DigestMismatch if these are the last ones
        of all, and not all were right.
        """
        with self._lock:
            if offset <= self._end:
                self._extend(data, offset)
            elif offset < self._end + self._window and len(self._early) < _EARLY:
                self._early[offset] = data
            for start in sorted(self._early):
                if start <= self._end:
                    self._extend(self._early.pop(start), start)
            if self._end == self._size and (found := self._hash.digest()) != self._expected:
                subject = f"blob {self._expected}"
                raise DigestMismatch(subject, self._expected, found, self._size)

    def _extend(self, data: bytes, offset: int) -> None:
        """Hash those of the bytes that are not hashed yet."""
        rest = memoryview(data)[self._end - offset :]
        if rest:
            self._hash.update(rest)
            self._end += len(rest)

"""Blobs that are hashed on other cores before their turn to be written.

One SHA-256 keeps one core busy. So while one blob is written, the next ones are read and hashed.
The bytes are read once more when they are written, and a CRC-32 tells that they are the same.
"""

import os
from collections import deque
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import Final

import msgspec

from engine.allocation import keep_freed_memory
from engine.closing import Closing
from engine.compression.checksum import crc32
from engine.content.protocols import Provider, ReaderAt
from engine.errors import NotFound
from engine.limits import BUFFER_SIZE
from engine.spec import digest as digests
from engine.spec.digest import Digest
from engine.threads import Workers

_AHEAD: Final = 256 << 20
"""Bytes that are hashed before their turn, which the page cache should still hold then."""
_MOST: Final = 64
"""The largest number of blobs that are open before their turn."""
_WORTH_IT: Final = 1 << 20
"""The size in bytes of the smallest blob that is hashed ahead."""


class Hashed(msgspec.Struct, frozen=True):
    """The digest and the CRC-32 of a blob's bytes."""

    digest: Digest
    checksum: int


class OpenBlob(Closing):
    """An open blob, which another thread may be hashing."""

    def __init__(self, digest: Digest, reader: ReaderAt) -> None:
        """`reader` is closed with this."""
        self.digest = digest
        self.reader = reader
        self.hashed: Callable[[], Hashed] | None = None
        """Waits for the end of hashing, and raises OSError; None if nobody hashes the blob."""
        self._is_closed = False

    def begin(self, workers: Workers) -> None:
        """Begin to hash the blob."""
        self.hashed = workers.begin(self._hash)

    def close(self) -> None:
        """Wait until the blob is not read any more."""
        self._is_closed = True
        if self.hashed is not None:
            with suppress(Exception):  # who wants to know has asked before
                self.hashed()
        self.reader.close()

    def _hash(self) -> Hashed:
        hasher, checksum = digests.hasher(self.digest.algorithm), 0
        for offset in range(0, self.reader.size, BUFFER_SIZE):
            if self._is_closed:
                break
            data = self.reader.pread(BUFFER_SIZE, offset)
            hasher.update(data)
            checksum = crc32(data, checksum)
        return Hashed(digests.from_hash(self.digest.algorithm, hasher), checksum)


class HashingAhead(Closing):
    """The opening and hashing of blobs in the order in which they are written; for one thread.

    With one core nothing is hashed ahead, since every byte is read twice.
    """

    def __init__(self, blobs: Iterable[tuple[Digest, int]], provider: Provider) -> None:
        """`blobs` are digests and sizes, which are asked for when they are needed."""
        self._provider = provider
        self._cores = len(os.sched_getaffinity(0))
        self._coming = (blob for blob in blobs if self._cores > 1 and blob[1] >= _WORTH_IT)
        self._begun: deque[OpenBlob] = deque()
        self._workers: Workers | None = None

    def take(self, digest: Digest) -> OpenBlob:
        """Return a blob whose turn has come, which the caller closes; raise NotFound.

        Begin to hash blobs behind it.
        """
        if self._begun and self._begun[0].digest == digest:
            found = self._begun.popleft()
        else:
            found = OpenBlob(digest, self._provider.open(digest))
        self._begin(digest)
        return found

    def close(self) -> None:
        """Close the blobs whose turn did not come."""
        while self._begun:
            self._begun.popleft().close()
        if self._workers is not None:
            self._workers.close()

    def _begin(self, current: Digest) -> None:
        """Open blobs, and hash those that are on the disk."""
        ahead = sum(blob.reader.size for blob in self._begun)
        while len(self._begun) < _MOST and ahead < _AHEAD:
            digest, size = next(self._coming, (None, 0))
            if digest is None:
                return
            if digest == current:
                continue
            with suppress(NotFound, OSError):  # it is raised when its turn has come
                blob = OpenBlob(digest, self._provider.open(digest))
                self._begun.append(blob)
                ahead += size
                if blob.reader.fileno() is not None:
                    blob.begin(self._threads())

    def _threads(self) -> Workers:
        if self._workers is None:
            keep_freed_memory(4 * BUFFER_SIZE)
            self._workers = Workers(self._cores)
        return self._workers

"""Blobs that are hashed on other cores before their turn to be written.

One SHA-256 keeps one core busy. So while one blob is written, the next ones are read and hashed.
The bytes are read once more when they are written, and a CRC-32 tells that they are the same. Where
a blob can be written before its turn, it is written from the buffer that is hashed.
"""

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from threading import Lock
from typing import Final

import msgspec

from engine.allocation import keep_freed_memory
from engine.closing import Closing
from engine.compression.checksum import crc32
from engine.content.protocols import Provider, ReaderAt
from engine.errors import NotFound
from engine.hashing.threads import HashingThreads
from engine.hashing.updates import Hashing, Update
from engine.layouts.entry import Entry
from engine.limits import BUFFER_SIZE
from engine.spec import digest as digests
from engine.spec.digest import Digest

_AHEAD: Final = max(256 << 20, os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 16)
"""Bytes that are hashed before their turn, which the page cache should still hold then."""
_MOST: Final = 64
"""The largest number of blobs that are open before their turn."""
_WORTH_IT: Final = 1 << 20
"""The size in bytes of the smallest blob that is hashed ahead."""
_PIECE: Final = 256 << 10
"""Bytes that are read at a time; they stay in the cache of one core while they are used."""

Put = Callable[[Entry, bytes, int], object]
"""Writes bytes of an entry, from an offset in it on; called by several threads."""


class Hashed(msgspec.Struct, frozen=True):
    """The digest and the CRC-32 of a blob's bytes; None if they were written from one buffer."""

    digest: Digest
    checksum: int | None


class OpenBlob(Closing):
    """The open blob of an entry, which is hashed by the first thread that asks to."""

    def __init__(self, entry: Entry, digest: Digest, reader: ReaderAt) -> None:
        """`reader` is closed with this."""
        self.entry = entry
        self.reader = reader
        self.hashed: Callable[[], Hashed] | None = None
        """Waits for the end of hashing, and raises OSError; None if nobody hashes the blob."""
        self._algorithm = digest.algorithm
        self._taken = Lock()
        self._is_closed = False

    def begin(self, threads: HashingThreads, put: Put | None) -> None:
        """Have the blob hashed, and written by `put`."""
        self.hashed = threads.submit(self._hash(put), self.reader.size)

    def take(self) -> None:
        """Let the caller hash the blob, if no other thread does."""
        if self._taken.acquire(blocking=False):
            self.hashed = None

    def close(self) -> None:
        """Wait until the blob is not read any more."""
        self._is_closed = True
        self.take()
        if self.hashed is not None:
            with suppress(Exception):  # who wants to know has asked before
                self.hashed()
        self.reader.close()

    def _hash(self, put: Put | None) -> Hashing[Hashed]:
        hasher, checksum = digests.hasher(self._algorithm), 0
        if self._taken.acquire(blocking=False):
            for offset in range(0, self.reader.size, _PIECE):
                if self._is_closed:
                    break
                data = self.reader.pread(_PIECE, offset)
                yield Update(hasher, memoryview(data))
                if put is None:
                    checksum = crc32(data, checksum)
                else:
                    put(self.entry, data, offset)
        found = digests.from_hash(self._algorithm, hasher)
        return Hashed(found, checksum if put is None else None)


class HashingAhead(Closing):
    """The opening and hashing of blobs in the order in which they are written; for one thread.

    That thread hashes what it writes, unless another one has begun to. So with one core no blob is
    hashed ahead, which would be read twice.
    """

    def __init__(self, entries: Iterable[Entry], provider: Provider, put: Put | None) -> None:
        """`entries` is iterated over as blobs are needed; `put` writes them as they are hashed."""
        self._provider = provider
        self._put = put
        cores = len(os.sched_getaffinity(0))
        self._count = cores - 1 if put is None else cores
        self._coming = iter(entries if self._count else ())
        self._begun: deque[OpenBlob] = deque()
        self._threads: HashingThreads | None = None

    def take(self, entry: Entry, digest: Digest) -> OpenBlob:
        """Return the blob of an entry whose turn has come, which the caller closes.

        Raise NotFound. Begin to hash blobs behind it, and this one if it is written meanwhile.
        """
        if self._put is not None:
            self._begin(None)
        if self._begun and self._begun[0].entry == entry:
            found = self._begun.popleft()
        else:
            found = OpenBlob(entry, digest, self._provider.open(digest))
        if self._put is None:
            found.take()
            self._begin(entry)
        return found

    def close(self) -> None:
        """Close the blobs whose turn did not come."""
        while self._begun:
            self._begun.popleft().close()
        if self._threads is not None:
            self._threads.close()

    def _begin(self, current: Entry | None) -> None:
        """Open blobs except the current one, and hash those that are on the disk.

        The largest ones first, since the last one keeps one core busy.
        """
        found = sorted(self._opened(current), key=_size, reverse=True)
        for blob in found:
            if blob.reader.fileno() is not None and blob.reader.size == blob.entry.size:
                blob.begin(self._hashing(), self._put)

    def _opened(self, current: Entry | None) -> Iterator[OpenBlob]:
        ahead = sum(map(_size, self._begun))
        while len(self._begun) < _MOST and (ahead < _AHEAD or self._put is not None):
            entry = next(self._coming, None)
            if entry is None:
                return
            digest = entry.content
            if not isinstance(digest, Digest) or entry.size < _WORTH_IT or entry == current:
                continue
            with suppress(NotFound, OSError):  # it is raised when its turn has come
                blob = OpenBlob(entry, digest, self._provider.open(digest))
                self._begun.append(blob)
                ahead += entry.size
                yield blob

    def _hashing(self) -> HashingThreads:
        if self._threads is None:
            keep_freed_memory(4 * BUFFER_SIZE)
            self._threads = HashingThreads(self._count)
        return self._threads


def _size(blob: OpenBlob) -> int:
    return blob.reader.size

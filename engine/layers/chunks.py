"""A cache of the decompressed chunks of blobs, filled on demand by any number of threads.

A chunk that is not cached is decompressed from the nearest position before it: by a stopped cursor,
by a running one (the caller waits for it), or from a point of the seek index of the blob. So
threads that read one blob roughly in order share one pass over it, and threads that read distant
parts of it decompress in parallel.

Memory is bounded by CACHED bytes of chunks, the indexes of INDEXES blobs (at most 5 MB each),
CURSORS stopped cursors (1 MiB each, and the window of the format: 32 KiB for gzip, up to 8 MiB for
common zstd levels), and one cursor for each thread in a call.
"""

from collections import Counter, OrderedDict
from dataclasses import dataclass
from threading import Condition
from typing import Final

import msgspec

from engine.content.protocols import ReaderAt
from engine.errors import BrokenArchive
from engine.layers.seek_index import Cursor, SeekIndex

CACHED: Final = 64 << 20
INDEXES: Final = 16
CURSORS: Final = 16
_KEPT_BEHIND: Final = 4
"""The number of chunks before the wanted one that are cached: the readahead of a kernel may arrive
out of order.
"""


class CompressedBlob(msgspec.Struct, frozen=True):
    """A blob, its compression as `decompress.sniff` returns it, and its uncompressed size."""

    digest: str
    compression: str
    size: int


@dataclass(slots=True, eq=False)
class _Run:
    """A cursor in use by one thread at a time; `position` is the chunk that it returns next."""

    digest: str
    cursor: Cursor
    position: int


class Chunks:
    """The cached chunks, the seek indexes and the cursors of all blobs.

    At most `cached` bytes of chunks are kept.
    """

    def __init__(self, cached: int = CACHED) -> None:
        self._limit = cached
        self._changed = Condition()
        self._size = 0
        self._cache: OrderedDict[tuple[str, int], bytes] = OrderedDict()
        self._indexes: OrderedDict[str, SeekIndex] = OrderedDict()
        self._stopped: list[_Run] = []
        self._running: list[_Run] = []
        self._awaited: Counter[tuple[str, int]] = Counter()

    def get(self, blob: CompressedBlob, number: int, source: ReaderAt) -> bytes:
        """Return chunk `number` of a blob; `source` is the stored, compressed blob.

        Raise BrokenArchive if the blob is damaged, and forget all state of that blob; raise OSError
        if reading fails.
        """
        with self._changed:
            found = self._found_or_run(blob, number)
        return self._decompress(found, number, source) if isinstance(found, _Run) else found

    def _found_or_run(self, blob: CompressedBlob, number: int) -> bytes | _Run:
        key = (blob.digest, number)
        while (data := self._cached(key)) is None:
            index = self._index(blob)
            run = self._nearest(blob.digest, number, index.before(number))
            if run is None:
                cursor = Cursor(index, number, blob.size)
                run = _Run(blob.digest, cursor, cursor.position)
            elif run in self._stopped:
                self._stopped.remove(run)
            else:
                self._wait_for(key)
                continue
            self._running.append(run)
            return run
        return data

    def _nearest(self, digest: str, number: int, least: int) -> _Run | None:
        """Return the run nearest before chunk `number`, at chunk `least` or later."""
        runs = [
            run
            for run in (*self._stopped, *self._running)
            if run.digest == digest and least <= run.position <= number
        ]
        return max(runs, key=lambda run: run.position, default=None)

    def _wait_for(self, key: tuple[str, int]) -> None:
        self._awaited[key] += 1
        try:
            self._changed.wait()
        finally:
            self._awaited[key] -= 1
            if not self._awaited[key]:
                del self._awaited[key]

    def _decompress(self, run: _Run, number: int, source: ReaderAt) -> bytes:
        try:
            while True:
                data = run.cursor.next_chunk(source)
                with self._changed:
                    key = (run.digest, run.position)
                    run.position += 1
                    if number - key[1] <= _KEPT_BEHIND or key in self._awaited:
                        self._keep(key, data)
                        self._changed.notify_all()
                    if key[1] == number:
                        self._stop(run)
                        return data
        except BaseException as error:
            with self._changed:
                self._running.remove(run)
                if isinstance(error, BrokenArchive):
                    self._forget(run.digest)
                self._changed.notify_all()
            if isinstance(error, BrokenArchive):
                raise BrokenArchive(run.digest, error.reason) from error
            raise

    def _stop(self, run: _Run) -> None:
        self._running.remove(run)
        if not run.cursor.ended:
            self._stopped.append(run)
            del self._stopped[:-CURSORS]

    def _index(self, blob: CompressedBlob) -> SeekIndex:
        index = self._indexes.get(blob.digest)
        if index is None:
            index = self._indexes[blob.digest] = SeekIndex(blob.compression)
            if len(self._indexes) > INDEXES:
                self._forget_places(next(iter(self._indexes)))
        self._indexes.move_to_end(blob.digest)
        return index

    def _cached(self, key: tuple[str, int]) -> bytes | None:
        data = self._cache.get(key)
        if data is not None:
            self._cache.move_to_end(key)
        return data

    def _keep(self, key: tuple[str, int], data: bytes) -> None:
        self._drop(key)
        self._cache[key] = data
        self._size += len(data)
        while self._size > self._limit:
            self._drop(next(iter(self._cache)))

    def _drop(self, key: tuple[str, int]) -> None:
        self._size -= len(self._cache.pop(key, b""))

    def _forget_places(self, digest: str) -> None:
        self._indexes.pop(digest, None)
        self._stopped = [run for run in self._stopped if run.digest != digest]

    def _forget(self, digest: str) -> None:
        self._forget_places(digest)
        for key in [key for key in self._cache if key[0] == digest]:
            self._drop(key)

"""A cache of the uncompressed chunks of layers, filled on demand by any number of threads.

A chunk that is not cached is decompressed from the nearest position before it: by a stopped cursor,
by a running one (the caller waits for it), or from a point of the layer. So threads that read one
layer roughly in order share one pass over it, and threads that read distant parts of it decompress
in parallel. A layer that is read in order is read ahead. Where points are far apart, as in a single
zstd frame, the chunks that a cursor passes are kept in a file, so that the layer is decompressed
once.

Memory is bounded by CACHED bytes of chunks, CURSORS stopped cursors (some 300 KiB each, and up to
8 MiB for the window of common zstd levels), and one cursor for each thread in a call.
"""

from collections import Counter, OrderedDict
from dataclasses import dataclass
from pathlib import Path
from threading import Condition
from typing import Final

import msgspec

from engine.content.protocols import ReaderAt
from engine.errors import DamagedLayer
from engine.layers.cursor import Cursor, first_chunk, point_before, size_of, verify
from engine.layers.layer import CACHED
from engine.layers.spill import Spill
from engine.layers.table import CHUNK, LayerTable, StoredLayer

CURSORS: Final = 16
_KEPT_BEHIND: Final = (4 << 20) // CHUNK
"""The number of chunks before the wanted one that are cached: the readahead of a kernel may arrive
out of order, and small files follow one another.
"""
_AHEAD: Final = (4 << 20) // CHUNK
"""The largest number of chunks that are read ahead at a time; the first time it is two."""
_FAR: Final = (16 << 20) // CHUNK
"""The number of chunks behind a point from which on they are kept in the file."""


@dataclass(slots=True, eq=False)
class _Run:
    """A cursor in use by one thread at a time; `position` is the chunk that it returns next."""

    layer: StoredLayer
    cursor: Cursor
    position: int


class Ahead(msgspec.Struct, frozen=True, gc=False):
    """Chunks to read ahead: `count` of them from number `first` on."""

    first: int
    count: int


class Chunks:
    """The cached chunks and the cursors of all layers.

    At most `cached` bytes of chunks are kept in memory, and some of them in a file in `directory`.
    """

    def __init__(self, directory: Path, cached: int = CACHED) -> None:
        self._limit = cached
        self._changed = Condition()
        self._size = 0
        self._cache: OrderedDict[tuple[str, int], bytes] = OrderedDict()
        self._spill = Spill(directory)
        self._stopped: list[_Run] = []
        self._running: list[_Run] = []
        self._awaited: Counter[tuple[str, int]] = Counter()
        self._due: OrderedDict[tuple[str, int], Ahead] = OrderedDict()
        """The chunks to read ahead once a chunk is read; `due` takes them without the lock."""

    def get(self, layer: StoredLayer, number: int, source: ReaderAt) -> bytes:
        """Return chunk `number` of a layer, verified; `source` is the stored blob.

        Raise DamagedLayer if it is damaged, and OSError if reading fails.
        """
        data, continues = self._fetch(layer, number, source)
        if continues:
            self._note((layer.digest, number), Ahead(number + 1, 2))
        return data

    def due(self, layer: StoredLayer, number: int) -> Ahead | None:
        """Return what to read ahead, with `read_ahead`, after chunk `number` has been read."""
        return self._due.pop((layer.digest, number), None)

    def read_ahead(self, layer: StoredLayer, wanted: Ahead, source: ReaderAt) -> None:
        """Put chunks into the cache, and note when to go on; raise as `get` does."""
        first, end = wanted.first, min(wanted.first + wanted.count, len(layer.table.checksums))
        for number in range(first, end):
            self._fetch(layer, number, source)
        if first < end:
            following = Ahead(end, min(2 * wanted.count, _AHEAD))
            self._note((layer.digest, (first + end) // 2), following)

    def get_at_once(self, layer: StoredLayer, number: int) -> bytes | None:
        """Return a chunk if it is in memory and no thread has to be waited for, else None."""
        if not self._changed.acquire(blocking=False):
            return None
        try:
            return self._cached((layer.digest, number))
        finally:
            self._changed.release()

    def _fetch(self, layer: StoredLayer, number: int, source: ReaderAt) -> tuple[bytes, bool]:
        """Return a chunk, and whether it has been decompressed right behind the one before it."""
        if layer.table.compression == "none":
            return self._plain(layer, number, source), False
        with self._changed:
            found = self._found_or_run(layer, number)
        if not isinstance(found, _Run):
            return found, False
        continues = found.position == number
        return self._decompress(found, number, source), continues

    def _note(self, key: tuple[str, int], ahead: Ahead) -> None:
        with self._changed:
            self._due[key] = ahead
            while len(self._due) > CURSORS:
                self._due.popitem(last=False)

    def _plain(self, layer: StoredLayer, number: int, source: ReaderAt) -> bytes:
        key = (layer.digest, number)
        with self._changed:
            data = self._cached(key)
        if data is None:
            data = source.pread(size_of(layer.table, number), number * CHUNK)
            verify(layer, number, data)
            with self._changed:
                self._keep(key, data)
        return data

    def _found_or_run(self, layer: StoredLayer, number: int) -> bytes | _Run:
        key = (layer.digest, number)
        while (data := self._cached(key)) is None:
            if (data := self._spilled(layer, number)) is not None:
                self._keep(key, data)
                return data
            first = first_chunk(point_before(layer.table, number))
            run = self._nearest(layer.digest, number, first)
            if run is None:
                cursor = Cursor(layer, number)
                run = _Run(layer, cursor, cursor.position)
            elif run in self._stopped:
                self._stopped.remove(run)
            else:
                self._wait_for(key)
                continue
            self._running.append(run)
            return run
        return data

    def _spilled(self, layer: StoredLayer, number: int) -> bytes | None:
        data = self._spill.get((layer.digest, number))
        if data is not None:
            verify(layer, number, data)
        return data

    def _nearest(self, digest: str, number: int, least: int) -> _Run | None:
        """Return the run nearest before chunk `number`, at chunk `least` or later."""
        runs = [
            run
            for run in (*self._stopped, *self._running)
            if run.layer.digest == digest and least <= run.position <= number
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
        digest = run.layer.digest
        try:
            while True:
                data = run.cursor.next_chunks(source)
                with self._changed:
                    key = (digest, run.position)
                    run.position += 1
                    if _is_far(run.layer.table, key[1]):
                        self._spill.put(key, data)
                    if number - key[1] <= _KEPT_BEHIND or key in self._awaited:
                        self._keep(key, data)
                        self._changed.notify_all()
                    if key[1] == number:
                        self._stop(run)
                        return data
        except BaseException as error:
            with self._changed:
                self._running.remove(run)
                if isinstance(error, DamagedLayer):
                    self._stopped = [one for one in self._stopped if one.layer.digest != digest]
                self._changed.notify_all()
            raise

    def _stop(self, run: _Run) -> None:
        self._running.remove(run)
        if not run.cursor.ended:
            self._stopped.append(run)
            del self._stopped[:-CURSORS]

    def _cached(self, key: tuple[str, int]) -> bytes | None:
        data = self._cache.get(key)
        if data is not None:
            self._cache.move_to_end(key)
        return data

    def _keep(self, key: tuple[str, int], data: bytes) -> None:
        self._size += len(data) - len(self._cache.pop(key, b""))
        self._cache[key] = data
        while self._size > self._limit:
            _, dropped = self._cache.popitem(last=False)
            self._size -= len(dropped)

    def close(self) -> None:
        """Remove the file; nothing is kept in it after that."""
        with self._changed:
            self._spill.close()


def _is_far(table: LayerTable, number: int) -> bool:
    """Return whether decompression to a chunk takes long from the last point before it."""
    return number - first_chunk(point_before(table, number)) >= _FAR

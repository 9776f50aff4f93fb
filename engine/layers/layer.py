"""Layers as they are read: any file at any offset, each byte verified.

`Layers.open` takes the table of a layer out of the store. A layer that has none, since it is older
than tables or its table was lost, is read once to make it.
"""

from __future__ import annotations

import errno
import os
from collections import OrderedDict
from collections.abc import Generator, Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Final, Self
from weakref import WeakValueDictionary

from engine.content.protocols import ReaderAt
from engine.content.tables import TableStore
from engine.errors import BrokenArchive, EngineError
from engine.layers.diff_ids import LabelledProvider, keep
from engine.layers.table import CHUNK, Entry, LayerTable, StoredLayer
from engine.progress import Progress, ignore
from engine.threads import begin

if TYPE_CHECKING:
    from engine.layers.chunks import Ahead, Chunks

CACHED: Final = 64 << 20
_KEPT_TABLES: Final = 4
"""The number of tables that stay in memory after their layers were open."""


class Layers:
    """The layers of a store; safe from any thread.

    What is decompressed is shared by all layers that are opened here, and so are tables.
    """

    def __init__(
        self, content: LabelledProvider, tables: TableStore, directory: Path, cached: int = CACHED
    ) -> None:
        """At most `cached` bytes of layers are kept in memory; `directory` is for a temporary file
        of layers that can be decompressed from their beginning only.
        """
        self._content = content
        self._stored = tables
        self._directory = directory
        self._cached = cached
        self._chunks: Chunks | None = None
        self._lock = Lock()
        self._learning: WeakValueDictionary[str, Lock] = WeakValueDictionary()
        self._tables: WeakValueDictionary[str, LayerTable] = WeakValueDictionary()
        self._latest: OrderedDict[str, LayerTable] = OrderedDict()

    def open(self, digest: str, on_progress: Progress = ignore) -> Layer:
        """Open a layer; `on_progress` hears of stored bytes if the table is made.

        Raise NotFound if the layer is absent, BrokenArchive, which names it, if it is too damaged
        to make the table.
        """
        table = self._known(digest)
        if table is not None:
            source = self._content.open_for_parts(digest)
        else:
            source = self._content.open(digest)
            try:
                table = self._table(digest, source, on_progress)
            except BaseException:
                source.close()
                raise
        self._keep(digest, table)
        return Layer(StoredLayer(digest, table), source, self._all_chunks())

    def table(self, digest: str, on_progress: Progress = ignore) -> LayerTable:
        """Return the table of a layer; raise as `open` does."""
        with closing(self._content.open(digest)) as source:
            return self._table(digest, source, on_progress)

    def stored_table(self, digest: str) -> LayerTable | None:
        """Return the table of a layer, None if the store has none; raise NotFound if the layer is
        absent.
        """
        with closing(self._content.open(digest)):
            return self._known(digest)

    def whole(self, digest: str, source: ReaderAt) -> Generator[bytes, None, None]:
        """Yield the uncompressed bytes of a layer, as `sections.whole_layer` does."""
        from engine.layers.sections import whole_layer  # deferred with the decoders

        return whole_layer(self._stored, digest, source)

    def close(self) -> None:
        """Release what is cached; no layer may be read after that."""
        if self._chunks is not None:
            self._chunks.close()

    def _all_chunks(self) -> Chunks:
        from engine.layers.chunks import Chunks  # deferred with the decoders

        with self._lock:
            if self._chunks is None:
                self._chunks = Chunks(self._directory, self._cached)
            return self._chunks

    def _table(self, digest: str, source: ReaderAt, on_progress: Progress) -> LayerTable:
        table = self._known(digest)
        if table is None:
            with self._alone(digest):
                table = self._held(digest)  # another thread may have made it
                if table is None:
                    table = self._learn(digest, source, on_progress)
                self._remember(digest, table)
        return table

    def _known(self, digest: str) -> LayerTable | None:
        """Return the table of a layer, None if it is still to be made."""
        with self._alone(digest):
            table = self._held(digest)
            if table is not None:
                self._remember(digest, table)
            return table

    def _held(self, digest: str) -> LayerTable | None:
        table = self._tables.get(digest)
        return self._load(digest) if table is None else table

    def _remember(self, digest: str, table: LayerTable) -> None:
        with self._lock:
            self._tables[digest] = table

    def _keep(self, digest: str, table: LayerTable) -> None:
        with self._lock:
            self._latest[digest] = table
            self._latest.move_to_end(digest)
            while len(self._latest) > _KEPT_TABLES:
                self._latest.popitem(last=False)

    @contextmanager
    def _alone(self, digest: str) -> Iterator[None]:
        """Let one thread at a time load or make the table of a layer."""
        with self._lock:
            lock = self._learning.setdefault(digest, Lock())
        with lock:
            yield

    def _load(self, digest: str) -> LayerTable | None:
        from engine.layers import table_codec

        with suppress(BrokenArchive, OSError):  # it is made again
            data = self._stored.get(digest)
            return table_codec.load(data) if data is not None else None
        return None

    def _learn(self, digest: str, source: ReaderAt, on_progress: Progress) -> LayerTable:
        from engine.layers import table_codec
        from engine.layers.learning import learn

        learnt = learn(source, digest, on_progress)
        # What was learnt is valid even if it cannot be stored, as in a store that is full.
        with suppress(OSError):
            self._stored.put(digest, table_codec.dump(learnt.table))
        if learnt.uncompressed is not None:
            keep(self._content, digest, learnt.uncompressed)
        return learnt.table


class Layer:
    """One open layer; safe from any thread.

    `close` does not interrupt reading in another thread; reading after it raises ValueError.
    """

    def __init__(self, layer: StoredLayer, source: ReaderAt, chunks: Chunks) -> None:
        """`source` is the stored blob, which is closed with the layer."""
        self._layer = layer
        self._source = source
        self._chunks = chunks
        self._lock = Lock()
        self._users = 1
        self._closed = False

    @property
    def digest(self) -> str:
        return self._layer.digest

    @property
    def table(self) -> LayerTable:
        return self._layer.table

    def pread(self, entry: Entry, length: int, offset: int) -> bytes:
        """Return up to `length` bytes of the content of a file, as `os.pread` does.

        Raise DamagedLayer if the layer has changed where it is read.
        """
        length = _within(length, offset, entry.size)
        with self._in_use():
            if not entry.segments:
                return self._read(length, entry.start + offset)
            return b"".join(self._expanded(entry, length, offset))

    def pread_at_once(self, entry: Entry, length: int, offset: int) -> bytes | None:
        """Return what `pread` returns if it is in memory and not of a sparse file, else None."""
        if entry.segments:
            return None
        length = _within(length, offset, entry.size)
        parts = []
        for number, start, end in _pieces(length, entry.start + offset):
            chunk = self._chunks.get_at_once(self._layer, number)
            if chunk is None:
                return None
            self._go_on(number)
            parts.append(chunk[start:end])
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def read(self, length: int, offset: int) -> bytes:
        """Return up to `length` bytes of the uncompressed layer, as `os.pread` does.

        Raise DamagedLayer as `pread` does.
        """
        length = _within(length, offset, self.table.size)
        with self._in_use():
            return self._read(length, offset)

    def close(self) -> None:
        with self._lock:
            if self._closed:
                return
            self._closed = True
        self._release()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _expanded(self, entry: Entry, length: int, offset: int) -> Iterator[bytes]:
        """Yield a part of a sparse file."""
        position, end, stored = offset, offset + length, entry.start
        for segment in entry.segments:
            first = max(position, segment.offset)
            last = min(end, segment.offset + segment.length)
            if first < last:
                yield bytes(first - position)
                yield self._read(last - first, stored + first - segment.offset)
                position = last
            stored += segment.length
        yield bytes(end - position)

    def _read(self, length: int, offset: int) -> bytes:
        parts = []
        for number, start, end in _pieces(length, offset):
            chunk = self._chunks.get(self._layer, number, self._source)
            self._go_on(number)
            parts.append(chunk[start:end])
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def _go_on(self, number: int) -> None:
        """Begin to read ahead if that is due after chunk `number`."""
        if ahead := self._chunks.due(self._layer, number):
            begin(self._read_ahead, ahead)

    def _read_ahead(self, ahead: Ahead) -> None:
        # What is wrong is raised by the read of the chunk itself.
        with suppress(ValueError, EngineError, OSError), self._in_use():
            self._chunks.read_ahead(self._layer, ahead, self._source)

    @contextmanager
    def _in_use(self) -> Iterator[None]:
        with self._lock:
            if self._closed:
                raise ValueError("read of a closed layer")
            self._users += 1
        try:
            yield
        finally:
            self._release()

    def _release(self) -> None:
        with self._lock:
            self._users -= 1
            is_last = not self._users
        if is_last:
            self._source.close()


def _within(length: int, offset: int, size: int) -> int:
    if offset < 0 or length < 0:
        raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
    return max(0, min(length, size - offset))


def _pieces(length: int, offset: int) -> Iterator[tuple[int, int, int]]:
    """Yield the number of each chunk in a part of a layer, and the start and end in the chunk."""
    end = offset + length
    while offset < end:
        number, start = divmod(offset, CHUNK)
        size = min(CHUNK - start, end - offset)
        yield number, start, start + size
        offset += size

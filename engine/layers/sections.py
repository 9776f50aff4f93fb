"""The whole of a layer, decompressed on every core.

A section reaches from one point of a layer to the next. Several are decompressed at once, ahead of
the caller, and yielded in order.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import closing, suppress
from functools import partial
from itertools import pairwise
from typing import Final, NamedTuple

from engine.allocation import keep_freed_memory
from engine.content.protocols import ReaderAt
from engine.content.tables import TableStore
from engine.errors import BrokenArchive, DamagedLayer
from engine.layers import table_codec
from engine.layers.cursor import Cursor, first_chunk
from engine.layers.diff_ids import uncompressed_pieces
from engine.layers.table import CHUNK, LayerTable, StoredLayer
from engine.threads import Workers

_HELD: Final = 24 << 20
"""The largest number of uncompressed bytes that are decompressed ahead."""
_JOINED: Final = 4
"""The number of chunks in a piece, which is hashed and written at once."""


class _Section(NamedTuple):
    """The chunks of a layer from `first` on, up to `end`."""

    first: int
    end: int

    @property
    def size(self) -> int:
        """The number of bytes that the chunks take at most."""
        return (self.end - self.first) * CHUNK


def whole_layer(tables: TableStore, digest: str, source: ReaderAt) -> Generator[bytes, None, None]:
    """Yield the uncompressed bytes of a layer in order; `source` is its stored blob.

    The layer is decompressed on one core if it has no table, or no points but its beginning. Raise
    BrokenArchive without a member if it is damaged, and OSError.
    """
    done = 0
    table = _stored_table(tables, digest)
    sections = _sections(table) if table is not None and table.compression != "none" else []
    if table is not None and len(sections) > 1:
        layer = _DividedLayer(StoredLayer(digest, table), source)
        try:
            with closing(layer.pieces(sections)) as pieces:
                for piece in pieces:
                    yield piece
                    done += len(piece)
            return
        except DamagedLayer:
            pass  # or its table is: from its beginning the layer is read without it
    yield from map(bytes, uncompressed_pieces(source, done))


def _stored_table(tables: TableStore, digest: str) -> LayerTable | None:
    with suppress(BrokenArchive, OSError):
        data = tables.get(digest)
        return None if data is None else table_codec.load_positions(data)
    return None


def _sections(table: LayerTable) -> list[_Section]:
    starts = [*map(first_chunk, table.points), len(table.checksums)]
    return [_Section(*one) for one in pairwise(starts) if one[0] < one[1]]


class _DividedLayer:
    """A layer whose sections are decompressed concurrently; for one thread at a time."""

    def __init__(self, layer: StoredLayer, source: ReaderAt) -> None:
        self._layer = layer
        self._source = source
        self._is_stopped = False

    def pieces(self, sections: Iterable[_Section]) -> Generator[bytes, None, None]:
        """Yield the bytes of all sections, verified by the checksums of their chunks.

        No thread reads the layer when the iterator is exhausted or closed. Raise DamagedLayer.
        """
        keep_freed_memory(_HELD)
        workers = Workers(len(os.sched_getaffinity(0)))
        coming: deque[tuple[_Section, Callable[[], Iterable[bytes]]]] = deque()
        held = 0
        try:
            for section in sections:
                if section.size > _HELD:  # more than may be held is decompressed as it is taken
                    coming.append((section, partial(self._pieces, section)))
                else:
                    coming.append((section, workers.begin(self._decompressed, section)))
                held += section.size
                while held > _HELD:
                    yield from coming[0][1]()
                    held -= coming.popleft()[0].size
            while coming:
                yield from coming.popleft()[1]()
        finally:
            self._is_stopped = True
            for _, take in coming:
                with suppress(Exception):  # what the caller needs to know was raised above
                    take()
            workers.close()

    def _decompressed(self, section: _Section) -> list[bytes]:
        return list(self._pieces(section))

    def _pieces(self, section: _Section) -> Iterator[bytes]:
        cursor = Cursor(self._layer, section.first)
        for first in range(section.first, section.end, _JOINED):
            if self._is_stopped:
                return
            count = min(_JOINED, section.end - first)
            yield cursor.next_chunks(self._source, count)

"""Creation of layers: diff ID, table, compression, digest and storage in one pass over the bytes.

No layer is visible before it is published; `discard` removes those that are not. A layer that was
created before from the same tree is found by a label, and no file is read.
"""

import hashlib
from collections.abc import Callable, Iterator
from contextlib import closing, suppress

import msgspec

from engine.commit.block_buffer import BlockBuffer
from engine.compression.compressor import Compressor
from engine.compression.options import Compression
from engine.content.writer import Writer
from engine.filetree.tree import Tree
from engine.layers.diff_ids import UNCOMPRESSED_LABEL, Measure, Uncompressed
from engine.layers.learning import Learnt
from engine.layers.table import LayerTable, Point
from engine.layers.table_builder import TableBuilder
from engine.layers.table_codec import dump
from engine.limits import Limits
from engine.spec import digest as digests
from engine.spec.digest import Digest
from engine.stores.protocols import ContentStore
from engine.threads import Workers, begin

TREE_LABEL = "imgfs.tree"
"""The label of a layer's blob that holds the fingerprint of its source."""


class Layer(msgspec.Struct, frozen=True):
    """A layer of an image; `size` is that of the blob in bytes."""

    digest: Digest
    size: int
    diff_id: Digest
    compression: Compression


class LayerSource(msgspec.Struct, frozen=True):
    """The source of a layer.

    `write` adds its tar to the blocks; `on_progress` hears the size of each block in bytes;
    `fingerprint` identifies the source, so that a layer created before is found again; it is "" if
    nothing does.
    """

    write: Callable[[BlockBuffer], None]
    on_progress: Callable[[int], None]
    fingerprint: str
    compression: Compression


class LayerMaker:
    """The new layers of one commit. `make` may be called in several threads at a time."""

    def __init__(self, store: ContentStore, hold: Callable[[Digest], None]) -> None:
        """`hold` leases a blob of the store."""
        self._store = store
        self._hold = hold
        self._writers: dict[Digest, tuple[Writer, dict[str, str]]] = {}
        self._tables: dict[Digest, LayerTable] = {}
        self._syncing = Workers(1)
        self._synced: list[Callable[[], None]] = []

    def make(self, source: LayerSource) -> Layer:
        """Return the layer; raise OSError and the errors of `source.write`."""
        return self._known(source) or self._made(source)

    def writers(self) -> list[tuple[Writer, dict[str, str]]]:
        """Return the durable ingests to be published, each with its labels; raise OSError."""
        for wait in self._synced:
            wait()
        return list(self._writers.values())

    def tables(self) -> Iterator[tuple[Digest, bytes]]:
        """Yield the digests of the layers to be published, and their tables."""
        return ((digest, dump(table)) for digest, table in self._tables.items())

    def damage(self, layer: Digest) -> str:
        """Return why a new layer is not a whole tar, or ""."""
        return self._tables[layer].damage if layer in self._tables else ""

    def discard(self) -> None:
        """Discard the layers that were not published."""
        for wait in self._synced:
            with suppress(Exception):  # which `writers` has raised, or nobody waits for
                wait()
        self._syncing.close()
        for writer, _ in self._writers.values():
            writer.abort()

    def _known(self, source: LayerSource) -> Layer | None:
        if not source.fingerprint:
            return None
        for info in self._store.labelled(TREE_LABEL, source.fingerprint):
            diff_id = info.labels.get(UNCOMPRESSED_LABEL)
            self._hold(info.digest)
            if diff_id and self._store.exists(info.digest):
                return Layer(info.digest, info.size, digests.parse(diff_id), source.compression)
        return None

    def _made(self, source: LayerSource) -> Layer:
        writer = self._store.unnamed_writer()
        try:
            with closing(source.compression.start(writer.write)) as compressor:
                work = _Work(compressor, source)
                blocks = BlockBuffer(work.take, max(1, compressor.held))
                source.write(blocks)
                blocks.finish()
                learnt = work.result()
            digest, size = writer.digest(), writer.status().offset
            found = learnt.uncompressed or Uncompressed(digest, size)
            made = Layer(digest, size, found.diff_id, source.compression)
        except BaseException:
            writer.abort()
            raise
        tree = {TREE_LABEL: source.fingerprint} if source.fingerprint else {}
        labels = {**found.labels, **tree}
        mine = (writer, labels)
        self._tables.setdefault(digest, learnt.table)
        if self._writers.setdefault(digest, mine) is not mine:
            writer.abort()
        else:
            self._synced.append(self._syncing.begin(self._store.prepare, [writer]))
        return made


def fingerprint(tree: Tree, *settings: object) -> str:
    """Return a text that is equal for an unchanged directory with the same settings.

    As in git's index and rsync, size, mtime, ctime and inode detect a change; no file is read.
    """
    hasher = hashlib.sha256(repr(settings).encode(errors="surrogateescape"))
    for path, entry in tree.items():
        hasher.update(repr((path, entry)).encode(errors="surrogateescape"))
    return f"sha256:{hasher.hexdigest()}"


class _Work:
    """The processing of each block: another thread looks at it while it is compressed."""

    def __init__(self, compressor: Compressor, source: LayerSource) -> None:
        self._compressor = compressor
        self._on_progress = source.on_progress
        kind = source.compression.kind
        self._compression = "none" if kind == "uncompressed" else kind
        self._measure = None if self._compression == "none" else Measure()
        self._builder = TableBuilder(Limits())
        self._seen: Callable[[], None] = _nothing

    def take(self, block: memoryview) -> None:
        self._seen()
        self._seen = begin(self._look_at, block)
        self._compressor.write(block)
        self._on_progress(len(block))

    def result(self) -> Learnt:
        self._compressor.finish()
        self._seen()
        points = [
            Point(position.uncompressed, position.compressed, 0, b"")
            for position in self._compressor.entrances
        ]
        table = self._builder.result(self._compression, (Point(0, 0), *points))
        return Learnt(None if self._measure is None else self._measure.result(), table)

    def _look_at(self, block: memoryview) -> None:
        if self._measure is not None:
            self._measure.add(block).apply()
        self._builder.feed(block)


def _nothing() -> None:
    """Wait for nothing, since no block is being hashed."""

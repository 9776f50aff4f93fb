"""Creation of layers: diff ID, compression, digest and storage in one pass over the bytes.

No layer is visible before it is published; `discard` removes those that are not. A layer that was
created before from the same tree is found by a label, and no file is read.
"""

import hashlib
from collections.abc import Callable
from contextlib import closing

import msgspec

from engine.commit.block_buffer import BlockBuffer
from engine.compression.compressor import Compressor
from engine.compression.options import Compression
from engine.content.writer import Writer
from engine.filetree.tree import Tree
from engine.layers.diff_ids import UNCOMPRESSED_LABEL, Measure, Uncompressed
from engine.spec import digest as digests
from engine.spec.digest import Digest
from engine.stores.protocols import ContentStore
from engine.threads import begin

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
    `fingerprint` identifies the source, so that a layer created before is found again.
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

    def make(self, source: LayerSource) -> Layer:
        """Return the layer; raise OSError and the errors of `source.write`."""
        return self._known(source) or self._made(source)

    def writers(self) -> list[tuple[Writer, dict[str, str]]]:
        """Return the ingests to be published, each with its labels."""
        return list(self._writers.values())

    def discard(self) -> None:
        """Discard the layers that were not published."""
        for writer, _ in self._writers.values():
            writer.abort()

    def _known(self, source: LayerSource) -> Layer | None:
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
                work = _Work(compressor, source.on_progress)
                blocks = BlockBuffer(work.take, max(1, compressor.held))
                source.write(blocks)
                blocks.finish()
                found = work.result()
            size = writer.status().offset
            made = Layer(writer.digest(), size, found.diff_id, source.compression)
        except BaseException:
            writer.abort()
            raise
        labels = {**found.labels, TREE_LABEL: source.fingerprint}
        if made.digest in self._writers:
            writer.abort()
        else:
            self._writers[made.digest] = (writer, labels)
        return made


def fingerprint(tree: Tree, *settings: object) -> str:
    """Return a text that is equal for an unchanged directory with the same settings.

    As in git's index and rsync, ctime and size detect a change; no file is read.
    """
    hasher = hashlib.sha256(repr(settings).encode(errors="surrogateescape"))
    for path, entry in tree.items():
        hasher.update(repr((path, entry)).encode(errors="surrogateescape"))
    return f"sha256:{hasher.hexdigest()}"


class _Work:
    """The processing of each block: it is hashed in another thread while it is compressed."""

    def __init__(self, compressor: Compressor, on_progress: Callable[[int], None]) -> None:
        self._compressor = compressor
        self._on_progress = on_progress
        self._measured = Measure()
        self._hashed: Callable[[], None] = _nothing

    def take(self, block: memoryview) -> None:
        self._hashed()
        self._hashed = begin(self._measured.update, block)
        self._compressor.write(block)
        self._on_progress(len(block))

    def result(self) -> Uncompressed:
        self._compressor.finish()
        self._hashed()
        return self._measured.result()


def _nothing() -> None:
    """Wait for nothing, since no block is being hashed."""

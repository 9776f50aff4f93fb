"""New layers: diff ID, compression, digest and storing in one pass over their bytes.

Nothing is visible before it is published; what is not published is dropped with `discard`. A layer
that was made before of the same tree is found again by a label, and no file is read.
"""

import hashlib
from collections.abc import Callable
from contextlib import closing

import msgspec

from engine.commit.block_buffer import BlockBuffer
from engine.compression.compressor import Compressor
from engine.compression.options import Compression
from engine.content.protocols import Writer
from engine.filetree.tree import Tree
from engine.layers.diff_ids import UNCOMPRESSED_LABEL, Measure, Uncompressed
from engine.spec import digest as digests
from engine.spec.digest import Digest
from engine.stores.protocols import ContentStore
from engine.threads import begin

TREE_LABEL = "imgfs.tree"
"""On a layer's blob: the fingerprint of what it was made of."""


class Layer(msgspec.Struct, frozen=True):
    """A layer of an image; `size` is that of the blob, in bytes."""

    digest: Digest
    size: int
    diff_id: Digest
    compression: Compression


class LayerSource(msgspec.Struct, frozen=True):
    """What a layer is made of: `write` adds its tar to blocks, `told` hears the size of each block,
    `fingerprint` tells whether it was made before.
    """

    write: Callable[[BlockBuffer], None]
    told: Callable[[int], None]
    fingerprint: str
    compression: Compression


class LayerMaker:
    """The new layers of one commit. `make` may run in several threads at a time."""

    def __init__(self, store: ContentStore, hold: Callable[[Digest], None]) -> None:
        """`hold` leases a blob that is there."""
        self._store = store
        self._hold = hold
        self._writers: dict[Digest, tuple[Writer, dict[str, str]]] = {}

    def make(self, source: LayerSource) -> Layer:
        """The layer; OSError, and whatever `write` raises."""
        return self._known(source) or self._made(source)

    def writers(self) -> list[tuple[Writer, dict[str, str]]]:
        """What is to be published, each with its labels."""
        return list(self._writers.values())

    def discard(self) -> None:
        """Drop what was not published."""
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
                work = _Work(compressor, source.told)
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
    """What is the same for a directory that has not changed, with the same settings.

    As git's index and rsync tell it, by ctime and size; no file is read.
    """
    hasher = hashlib.sha256(repr(settings).encode(errors="surrogateescape"))
    for path, entry in tree.items():
        hasher.update(repr((path, entry)).encode(errors="surrogateescape"))
    return f"sha256:{hasher.hexdigest()}"


class _Work:
    """What is done with each block: it is hashed beside, and compressed."""

    def __init__(self, compressor: Compressor, told: Callable[[int], None]) -> None:
        self._compressor = compressor
        self._told = told
        self._measured = Measure()
        self._hashed: Callable[[], None] = _nothing

    def take(self, block: memoryview) -> None:
        self._hashed()
        self._hashed = begin(self._measured.update, block)
        self._compressor.write(block)
        self._told(len(block))

    def result(self) -> Uncompressed:
        self._compressor.finish()
        self._hashed()
        return self._measured.result()


def _nothing() -> None:
    """No block is being hashed."""

"""New layers: diff ID, compression, digest and storing in one pass over their bytes.

Nothing is visible before it is published; what is not published is dropped with `discard`. A layer
that was made before of the same tree is found again by a label, and no file is read.
"""

import hashlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing

import msgspec

from engine import digest as digests
from engine.compression import BLOCK, Compression
from engine.content.diff_ids import UNCOMPRESSED_LABEL, Measure
from engine.content.local import LocalStore, LocalWriter
from engine.digest import Digest
from engine.filetree.tree import Tree

Piece = bytes | memoryview

TREE_LABEL = "imgfs.tree"
"""On a layer's blob: the fingerprint of what it was made of."""
_BATCH = BLOCK


class Layer(msgspec.Struct, frozen=True):
    """A layer of an image; `size` is that of the blob, in bytes."""

    digest: Digest
    size: int
    diff_id: Digest
    compression: Compression


class LayerSource(msgspec.Struct, frozen=True):
    """The pieces of a layer's tar, what tells whether it was made before, and how it is stored."""

    pieces: Iterable[Piece]
    fingerprint: str
    compression: Compression


class LayerMaker:
    """The new layers of one commit. `make` may run in several threads at a time."""

    def __init__(self, store: LocalStore, hold: Callable[[Digest], None]) -> None:
        """`hold` leases a blob that is there."""
        self._store = store
        self._hold = hold
        self._writers: dict[Digest, tuple[LocalWriter, dict[str, str]]] = {}

    def make(self, source: LayerSource) -> Layer:
        """The layer; OSError, and whatever its pieces raise."""
        return self._known(source) or self._made(source)

    def writers(self) -> list[tuple[LocalWriter, dict[str, str]]]:
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
            measured = Measure()
            compressor = source.compression.start(writer.write)
            with closing(compressor):
                for data in _batches(source.pieces):
                    measured.update(data)
                    compressor.write(data)
                compressor.finish()
            found = measured.result()
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


def _batches(pieces: Iterable[Piece]) -> Iterator[bytes]:
    """The same bytes in pieces of one size, but for the last; each is copied once."""
    held: list[Piece] = []
    size = 0
    for piece in pieces:
        rest = memoryview(piece)
        while size + len(rest) >= _BATCH:
            cut = _BATCH - size
            yield b"".join((*held, rest[:cut]))
            held, size, rest = [], 0, rest[cut:]
        if rest:
            held.append(rest)
            size += len(rest)
    yield b"".join(held)

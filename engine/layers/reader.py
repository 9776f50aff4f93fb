"""Stored layers as if they were not compressed, for any number of threads."""

from engine.closing import Closing
from engine.content.protocols import ReaderAt
from engine.layers.diff_ids import LabelledProvider, compression_of
from engine.layers.layer import Layer, Layers


class UncompressedBlobs:
    """A `Provider` of uncompressed layers, addressed by the digests of the stored blobs."""

    def __init__(self, store: LabelledProvider, layers: Layers) -> None:
        """`layers` are those of `store`."""
        self._store = store
        self._layers = layers

    def open(self, digest: str) -> ReaderAt:
        """Open the layer; one that is stored uncompressed is opened directly.

        Raise as `Layers.open` does.
        """
        source = self._store.open(digest)
        if compression_of(source) == "none":
            return source
        source.close()
        return UncompressedReader(self._layers.open(digest))


class UncompressedReader(Closing):
    """A `ReaderAt` of the uncompressed bytes of a layer, which it closes."""

    def __init__(self, layer: Layer) -> None:
        self._layer = layer
        self.size = layer.table.size

    def pread(self, length: int, offset: int) -> bytes:
        """Return bytes as `ReaderAt.pread` does; raise DamagedLayer."""
        return self._layer.read(length, offset)

    def fileno(self) -> int | None:
        """Return None: no file holds the uncompressed bytes."""
        return None

    def close(self) -> None:
        self._layer.close()

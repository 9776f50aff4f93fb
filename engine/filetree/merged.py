"""The merged files of an image, without unpacking its layers.

Only the index is kept in memory. It is built on first use, from one pass over the layers; reading a
file makes a pass over its layer up to that file. Safe from any thread.
"""

import hashlib
from collections.abc import Callable, Iterator
from threading import Lock

from engine.content.protocols import Provider
from engine.errors import (
    BrokenArchive,
    DigestMismatch,
    InvalidInput,
    NotFound,
    UnreadableLayer,
    printable,
)
from engine.filetree.applier import Applier
from engine.filetree.entry import LayerSpan
from engine.filetree.layer_files import read_file, read_layer
from engine.filetree.tree import Tree
from engine.layers.diff_ids import uncompressed_pieces
from engine.limits import Limits
from engine.spec import media_types as layer_types
from engine.spec.oci import Manifest


class MergedImage:
    """The merged root file system of the layers of one manifest."""

    def __init__(
        self,
        provider: Provider,
        manifest: Manifest,
        limits: Limits | None = None,
        applier: Callable[[], Applier] = Applier,
    ) -> None:
        """`limits` apply to each layer, those of `applier` to the whole root."""
        self._provider = provider
        self._layers = manifest.layers
        self._limits = limits or Limits()
        self._applier = applier
        self._lock = Lock()
        self._tree: Tree | None = None

    @property
    def tree(self) -> Tree:
        """The merged root.

        Raise NotFound if a layer is not in the store, UnreadableLayer, BrokenArchive or
        LimitExceeded.
        """
        with self._lock:
            if self._tree is None:
                applier = self._applier()
                for number in range(len(self._layers)):
                    self._apply(applier, number)
                self._tree = applier.tree()
            return self._tree

    def read(self, path: str) -> Iterator[bytes]:
        """Return an iterator of the content of a file, in pieces.

        Raise NotFound if there is no such path, InvalidInput if it is not a file. The iterator
        raises BrokenArchive if the layer is damaged, and DigestMismatch at the end if the layer has
        changed.
        """
        entry = self.tree.get(path)
        if entry is None:
            raise NotFound("file", path)
        if not isinstance(entry.content, LayerSpan):
            raise InvalidInput(f"{printable(path)}: is a {entry.kind} and not a file")
        return self._content(path, entry.content)

    def _content(self, path: str, span: LayerSpan) -> Iterator[bytes]:
        hasher = hashlib.sha256()
        for data in read_file(self._uncompressed(span.layer, span.offset), self._limits):
            hasher.update(data)
            yield data
        if hasher.digest() != span.sha256:
            raise DigestMismatch(
                path, f"sha256:{span.sha256.hex()}", f"sha256:{hasher.hexdigest()}"
            )

    def _apply(self, applier: Applier, number: int) -> None:
        layer = self._layers[number]
        if layer_types.is_encrypted(layer.media_type):
            raise UnreadableLayer(layer.digest, layer_types.unreadable(layer.media_type))
        try:
            applier.apply(read_layer(self._uncompressed(number, 0), number, self._limits))
        except BrokenArchive as error:
            reason = f"{error.member}: {error.reason}" if error.member else error.reason
            if not (why := layer_types.unreadable(layer.media_type)):
                raise BrokenArchive(f"layer {layer.digest}", reason) from error
            raise UnreadableLayer(layer.digest, f"{reason}; it {why}") from error

    def _uncompressed(self, number: int, start: int) -> Iterator[bytes | memoryview]:
        """Yield the uncompressed bytes of a layer from offset `start` on."""
        with self._provider.open(self._layers[number].digest) as blob:
            yield from uncompressed_pieces(blob, start)

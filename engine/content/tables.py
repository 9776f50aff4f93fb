"""The protocol of a store of layer tables."""

from typing import Protocol


class TableStore(Protocol):
    """A store of one derived document for each layer, by the digest of the layer's blob.

    A document may be lost at any time, since it can be made again from the layer. Safe from any
    thread; methods raise InvalidDigest for what is no digest, and OSError.
    """

    def get(self, digest: str) -> bytes | None:
        """Return the document of a layer, None if there is none."""

    def put(self, digest: str, data: bytes) -> None:
        """Make a document durable, in the place of an earlier one: the old or the new one is found
        after a crash.
        """

    def delete(self, digest: str) -> None:
        """Remove a document; do nothing if there is none."""

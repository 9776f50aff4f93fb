"""The protocol of a store of tables of layers and of roots."""

from typing import Protocol


class TableStore(Protocol):
    """A store of one derived document for each blob that has one, by the digest of the blob.

    That of a layer is its table, that of a manifest the table of the image's root. A document may
    be lost at any time, since it can be made again from the blobs. Safe from any thread; methods
    raise InvalidDigest for what is no digest, and OSError.
    """

    def get(self, digest: str) -> bytes | None:
        """Return the document of a blob, None if there is none."""

    def put(self, digest: str, data: bytes) -> None:
        """Make a document durable, in the place of an earlier one: the old or the new one is found
        after a crash.
        """

    def delete(self, digest: str) -> None:
        """Remove a document; do nothing if there is none."""

"""The entries of a layout, which is a set of stored images as an archive or a directory.

A layout determines all attributes of its entries; the tar writer and the mount only present them.
"""

from __future__ import annotations

import msgspec

from engine.errors import InvalidDigest
from engine.spec.digest import Digest, parse
from engine.spec.oci import is_layer_type


class Decompressed(msgspec.Struct, frozen=True):
    """The decompressed content of the blob `digest`; its own digest is `diff_id`."""

    digest: Digest
    diff_id: Digest


class Entry(msgspec.Struct, frozen=True):
    """One entry of an archive.

    `path` has no leading or trailing slash; `mode` is the permissions only, `mtime` is in seconds
    since the epoch and `size` in bytes. `content` is the bytes, the stored or decompressed blob
    that holds them, or None for a directory.
    """

    path: str
    mode: int
    mtime: int
    size: int
    content: bytes | Digest | Decompressed | None
    media_type: str = ""

    @property
    def is_directory(self) -> bool:
        return self.content is None

    @property
    def is_layer(self) -> bool:
        return isinstance(self.content, Decompressed) or is_layer_type(self.media_type)

    @property
    def stored(self) -> Digest | None:
        """The stored blob from which the content is read, None if there is none."""
        match self.content:
            case Decompressed(digest, _) | (Digest() as digest):
                return digest
        return None

    @staticmethod
    def directory(path: str, mtime: int) -> Entry:
        return Entry(path, 0o755, mtime, 0, None)

    @staticmethod
    def file(path: str, mode: int, mtime: int, data: bytes) -> Entry:
        return Entry(path, mode, mtime, len(data), data)

    @staticmethod
    def blob(digest: Digest, size: int, media_type: str) -> Entry:
        """Return a blob at its path in an OCI layout, with the epoch as its time."""
        return Entry(Entry.blob_path(digest), 0o444, 0, size, digest, media_type)

    @staticmethod
    def blob_path(digest: Digest) -> str:
        return f"blobs/{digest.algorithm}/{digest.encoded}"


def blob_digest(path: str) -> Digest | None:
    """Return the digest in a blob path of an OCI layout, None for any other path."""
    match path.split("/"):
        case ["blobs", algorithm, encoded]:
            try:
                return parse(f"{algorithm}:{encoded}")
            except InvalidDigest:
                return None
    return None

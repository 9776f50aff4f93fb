"""Layouts: how stored images look as an archive, or as a directory.

A layout decides; the tar writer and the mount only show what it decided.
"""

from __future__ import annotations

import msgspec

from engine.errors import InvalidDigest
from engine.spec.digest import Digest, parse
from engine.spec.oci import is_layer_type


class Decompressed(msgspec.Struct, frozen=True):
    """What comes out of the blob `digest` when it is decompressed; it hashes to `diff_id`."""

    digest: Digest
    diff_id: Digest


class Entry(msgspec.Struct, frozen=True):
    """One entry of an archive.

    `path` has no leading or trailing slash; `mode` is the permissions alone, `mtime` in seconds
    since the epoch, `size` in bytes; `content` is the bytes, the blob that holds them as they are
    or compressed, or None for a directory.
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
        """The blob of the store that the content comes from."""
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
        """A blob at its place in an OCI layout; its time is the epoch, since it is nobody's own."""
        return Entry(Entry.blob_path(digest), 0o444, 0, size, digest, media_type)

    @staticmethod
    def blob_path(digest: Digest) -> str:
        return f"blobs/{digest.algorithm}/{digest.encoded}"


def blob_digest(path: str) -> Digest | None:
    """The digest that a path of an OCI layout promises, None for any other path."""
    match path.split("/"):
        case ["blobs", algorithm, encoded]:
            try:
                return parse(f"{algorithm}:{encoded}")
            except InvalidDigest:
                return None
    return None

"""The reading of whole blobs of a content store."""

from __future__ import annotations

from typing import Final

from engine.content.protocols import Provider
from engine.errors import DigestMismatch, LimitExceeded, SizeMismatch
from engine.spec.digest import of_bytes, parse

DOCUMENT_LIMIT: Final = 20 * 1024 * 1024
"""The largest document that `read_blob` reads by default, in bytes."""


def read_blob(
    provider: Provider,
    digest: str,
    size: int | None = None,
    limit: int = DOCUMENT_LIMIT,
    subject: str | None = None,
) -> bytes:
    """Return the verified content of a small blob.

    `subject` names the blob in errors, in place of its digest. Raise NotFound if the blob is
    absent; SizeMismatch if its size is not `size`; LimitExceeded if it is larger than `limit`
    bytes; DigestMismatch if it is damaged.
    """
    name = subject or digest
    with provider.open(digest) as reader:
        if size is not None and size != reader.size:
            raise SizeMismatch(name, size, reader.size)
        if reader.size > limit:
            raise LimitExceeded(name, "size in bytes", limit, reader.size)
        data = reader.pread(reader.size, 0)
    if len(data) != reader.size:
        raise SizeMismatch(name, reader.size, len(data))
    wanted = parse(digest)
    if (found := of_bytes(data, wanted.algorithm)) != wanted:
        raise DigestMismatch(name, wanted, found)
    return data

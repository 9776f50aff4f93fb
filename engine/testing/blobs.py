"""Blobs for tests, and the writing of whole ones."""

import random
from collections.abc import Mapping

from engine.content.protocols import NO_LABELS, Bytes, Committed
from engine.spec import digest as digests
from engine.stores.content import ContentStore

LABELS = {"containerd.io/gc.root": "2024-01-02T03:04:05Z", "k": "v"}
ABSENT = digests.of_bytes(b"nobody stores this")


def content(size: int, seed: int = 0) -> bytes:
    """Return random bytes, the same ones for the same arguments."""
    return random.Random(f"{size} {seed}").randbytes(size)


def write_blob(
    store: ContentStore,
    ref: str,
    data: Bytes,
    expected: str | None = None,
    labels: Mapping[str, str] = NO_LABELS,
) -> Committed:
    """Store `data` as a blob, and discard what an earlier ingest of this `ref` has written.

    Raise the errors of `ContentStore.writer` and `Writer.commit`.
    """
    length = memoryview(data).nbytes
    with store.writer(ref, length, expected) as writer:
        writer.truncate(0)
        writer.write(data)
        return writer.commit(length, expected, labels)

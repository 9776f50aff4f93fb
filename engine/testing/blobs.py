"""The writing of whole blobs, for tests."""

from collections.abc import Mapping

from engine.content.protocols import NO_LABELS, Bytes, Committed
from engine.stores.content import ContentStore


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

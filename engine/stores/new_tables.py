"""Store tables ahead of the transaction that publishes their layers."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress

from engine.stores.protocols import Store


@contextmanager
def new_tables(store: Store, tables: Iterable[tuple[str, bytes]]) -> Iterator[None]:
    """Make tables durable, then run the block that publishes their layers.

    `tables` are pairs of the digest of a layer and its document. If they or the block raise, the
    tables whose layers are not in the store are removed. One that cannot be stored is made when it
    is needed, and one that cannot be removed is collected.
    """
    put: list[str] = []
    try:
        for digest, data in tables:
            put.append(digest)  # `put` can fail when the table is there
            with suppress(OSError):
                store.tables.put(digest, data)
        yield
    except BaseException:
        stored = store.content.sizes(put)
        for digest in put:
            if digest not in stored:
                with suppress(OSError):
                    store.tables.delete(digest)
        raise

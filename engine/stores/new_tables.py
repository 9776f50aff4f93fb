"""Store tables ahead of the transaction that publishes their layers."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress

from engine.stores.protocols import Store


@contextmanager
def new_tables(store: Store, tables: Iterable[tuple[str, bytes]]) -> Iterator[None]:
    """Make tables durable, then run the block that publishes their layers.

    `tables` are pairs of the digest of a layer and its document. If the block raises, the tables
    whose layers are not in the store are removed. One that cannot be stored is made when it is
    needed.
    """
    put: list[str] = []
    for digest, data in tables:
        with suppress(OSError):
            store.tables.put(digest, data)
            put.append(digest)
    try:
        yield
    except BaseException:
        stored = store.content.sizes(put)
        for digest in put:
            if digest not in stored:
                store.tables.delete(digest)
        raise

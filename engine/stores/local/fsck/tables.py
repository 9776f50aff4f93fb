"""Check of the tables of layers and of roots."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from typing import TYPE_CHECKING

from engine.errors import BrokenArchive, DamagedLayer, NotFound
from engine.filetree import tree_table_codec
from engine.layers import table_codec
from engine.layers.table import StoredLayer
from engine.stores.local.fsck.problem import Kind, Problem

if TYPE_CHECKING:
    from engine.stores.local.store import LocalStore


def damaged_tables(store: LocalStore) -> Iterator[Problem]:
    """Yield the tables that cannot be read; they are made anew when they are needed."""
    for found in store.tables.files():
        if found.digest is None:
            continue
        try:
            data = store.tables.get(found.digest)
            if data is not None:
                table_codec.load(data)
                tree_table_codec.load(data)
        except BrokenArchive as error:
            yield Problem(Kind.TABLE, found.digest, error.reason)
        except OSError as error:
            yield Problem(Kind.TABLE, found.digest, f"cannot be read: {error.strerror}")


def wrong_points(store: LocalStore, digest: str) -> str:
    """Return what is wrong with the points in the table of a layer that is not damaged, "" if
    nothing is.
    """
    from engine.layers.cursor import check_points  # deferred with the decoders

    with suppress(BrokenArchive, NotFound, OSError):  # `damaged_tables` reports these
        data = store.tables.get(digest)
        table = None if data is None else table_codec.load_positions(data)
        if table is not None and table.compression != "none":
            with store.content.open(digest) as source:
                try:
                    check_points(StoredLayer(digest, table), source)
                except DamagedLayer as error:
                    return f"is not that of the layer: {error.reason}"
    return ""

"""Check of the tables of layers and of roots."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from engine.errors import BrokenArchive
from engine.filetree import tree_table_codec
from engine.layers import table_codec
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

"""The stored form of the table of a root."""

from typing import Final

import msgspec

from engine.filetree.entry_tree import LeftOut
from engine.filetree.tree_table import TreeTable
from engine.layers.columns import (
    StoredAttributes,
    joined,
    loaded_attributes,
    split,
    stored_attributes,
)
from engine.layers.documents import Format
from engine.layers.table import Texts

FORMAT: Final = Format("root table", 5)
"""Its version changes with the rules of merging, too, and with the tables of layers."""


class _Document(msgspec.Struct, frozen=True, array_like=True):
    name_ends: bytes
    names: bytes
    first: bytes
    shown: bytes
    shared: list[StoredAttributes]
    attributes: bytes
    seconds: bytes
    nanoseconds: bytes
    sizes: bytes
    target_ends: bytes
    targets: bytes
    links: dict[int, int]
    left_out: list[tuple[int, bytes, str]]


def dump(table: TreeTable) -> bytes:
    """Return the stored form of the table of a root, which has no opaque directory."""
    return FORMAT.dump(
        _Document(
            split(table.names.ends),
            table.names.joined,
            split(table.first),
            split(table.shown),
            [stored_attributes(one) for one in table.shared],
            split(table.attributes),
            split(table.seconds),
            split(table.nanoseconds),
            split(table.sizes),
            split(table.targets.ends),
            table.targets.joined,
            dict(table.links),
            [(one.layer, one.path, one.reason) for one in table.left_out],
        ),
    )


def load(data: bytes) -> TreeTable | None:
    """Return the table in a document, None if it has another version; raise BrokenArchive."""
    plain = FORMAT.load(data)
    if plain is None:
        return None
    document = msgspec.msgpack.decode(plain, type=_Document)
    return TreeTable(
        names=Texts(document.names, joined("I", document.name_ends)),
        first=joined("I", document.first),
        shown=joined("Q", document.shown),
        shared=tuple(loaded_attributes(one) for one in document.shared),
        attributes=joined("I", document.attributes),
        seconds=joined("q", document.seconds),
        nanoseconds=joined("I", document.nanoseconds),
        sizes=joined("q", document.sizes),
        targets=Texts(document.targets, joined("I", document.target_ends)),
        links=document.links,
        opaque=frozenset(),
        left_out=tuple(LeftOut(*one) for one in document.left_out),
    )

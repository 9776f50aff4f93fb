"""The stored form of a layer's table."""

from array import array
from typing import Final

import msgspec

from engine.layers.columns import (
    StoredAttributes,
    joined,
    loaded_attributes,
    split,
    stored_attributes,
)
from engine.layers.documents import Format
from engine.layers.table import LayerTable, Point, Segment, Texts

FORMAT: Final = Format("layer table", 6)


class _Document(msgspec.Struct, frozen=True, array_like=True):
    compression: str
    size: int
    damage: str
    count: int
    shared: list[StoredAttributes]
    attributes: bytes
    path_ends: bytes
    paths: bytes
    link_ends: bytes
    links: bytes
    seconds: bytes
    nanoseconds: bytes
    sizes: bytes
    starts: bytes
    file_checksums: bytes
    segments: dict[int, tuple[Segment, ...]]
    checksums: bytes
    points: tuple[Point, ...]


def dump(table: LayerTable) -> bytes:
    """Return the stored form of a table."""
    document = _Document(
        table.compression,
        table.size,
        table.damage.encode("utf-8", "backslashreplace").decode(),
        len(table),
        [stored_attributes(one) for one in table.shared],
        split(table.attributes),
        split(table.paths.ends),
        table.paths.joined,
        split(table.links.ends),
        table.links.joined,
        split(table.seconds),
        split(table.nanoseconds),
        split(table.sizes),
        split(table.starts),
        split(table.file_checksums),
        dict(table.segments),
        split(table.checksums),
        table.points,
    )
    return FORMAT.dump(document)


def load(data: bytes) -> LayerTable | None:
    """Return the table in a document, None if it has another version; raise BrokenArchive."""
    plain = FORMAT.load(data)
    if plain is None:
        return None
    document = msgspec.msgpack.decode(plain, type=_Document)
    shared = tuple(loaded_attributes(one) for one in document.shared)
    return LayerTable(
        document.compression,
        document.size,
        document.damage,
        Texts(document.paths, joined("I", document.path_ends)),
        Texts(document.links, joined("I", document.link_ends)),
        shared,
        joined("I", document.attributes),
        joined("q", document.seconds),
        joined("I", document.nanoseconds),
        joined("q", document.sizes),
        joined("q", document.starts),
        joined("Q", document.file_checksums),
        document.segments,
        joined("I", document.checksums),
        document.points,
    )


def load_positions(data: bytes) -> LayerTable | None:
    """Return a table as `load` does, but without entries, which take most of its memory."""
    plain = FORMAT.load(data)
    if plain is None:
        return None
    decode = msgspec.msgpack.decode
    compression, size, *_, checksums, points = decode(plain, type=list[msgspec.Raw])
    none = Texts(b"", array("I"))
    return LayerTable(
        compression=decode(compression, type=str),
        size=decode(size, type=int),
        damage="",
        paths=none,
        links=none,
        shared=(),
        attributes=array("I"),
        seconds=array("q"),
        nanoseconds=array("I"),
        sizes=array("q"),
        starts=array("q"),
        file_checksums=array("Q"),
        segments={},
        checksums=joined("I", decode(checksums, type=bytes)),
        points=decode(points, type=tuple[Point, ...]),
    )

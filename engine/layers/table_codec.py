"""The stored form of a layer's table."""

from array import array
from collections.abc import Iterable
from typing import Final

import msgspec

from engine.layers.columns import (
    StoredAttributes,
    joined,
    joined_texts,
    loaded_attributes,
    split,
    split_lengths,
    stored_attributes,
)
from engine.layers.documents import Format
from engine.layers.table import LayerTable, Point, Segment, Texts

FORMAT: Final = Format("layer table", 3)
_BLOCK: Final = 512


class _Document(msgspec.Struct, frozen=True, array_like=True):
    compression: str
    size: int
    damage: str
    count: int
    shared: list[StoredAttributes]
    attributes: bytes
    path_lengths: bytes
    paths: bytes
    link_lengths: bytes
    links: bytes
    seconds: bytes
    nanoseconds: bytes
    sizes: bytes
    gaps: bytes
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
        split("I", table.attributes),
        split_lengths(table.paths),
        table.paths.joined,
        split_lengths(table.links),
        table.links.joined,
        split("q", table.seconds),
        split("I", table.nanoseconds),
        split("q", table.sizes),
        split("q", _gaps(table)),
        split("Q", table.file_checksums),
        dict(table.segments),
        split("I", table.checksums),
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
    sizes = joined("q", document.sizes)
    return LayerTable(
        document.compression,
        document.size,
        document.damage,
        joined_texts(document.paths, document.path_lengths),
        joined_texts(document.links, document.link_lengths),
        shared,
        joined("I", document.attributes),
        joined("q", document.seconds),
        joined("I", document.nanoseconds),
        sizes,
        _starts(document, sizes),
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


def _gaps(table: LayerTable) -> Iterable[int]:
    """Yield how far each start is from where the stored bytes before it end, if all are stored."""
    end = 0
    for start, size in zip(table.starts, table.sizes, strict=True):
        yield start - end
        end = start + size + -size % _BLOCK


def _starts(document: _Document, sizes: "array[int]") -> "array[int]":
    starts = array("q")
    end = 0
    for gap, size in zip(joined("q", document.gaps), sizes, strict=True):
        start = end + gap
        starts.append(start)
        end = start + size + -size % _BLOCK
    return starts

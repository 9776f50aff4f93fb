"""The stored form of a layer's table.

A document is HEADER (a name and the version of the format), a CRC-32 of what follows it, and a
MessagePack array, compressed with zstd if it is larger than _SMALL bytes. Columns of numbers are
split into columns of bytes, the lowest first, since those compress better. The same table gives the
same bytes.
"""

import sys
from array import array
from collections.abc import Iterable
from itertools import accumulate, chain
from types import ModuleType
from typing import Final

import msgspec

from engine.compression.checksum import crc32
from engine.errors import BrokenArchive
from engine.layers.table import Attributes, LayerTable, Point, Segment, Texts
from engine.tar.member import NO_XATTRS

VERSION: Final = 2
HEADER: Final = b"imgfs layer table " + VERSION.to_bytes(2)
_CHECKSUM: Final = 4
_SMALL: Final = 4 << 10
_ZSTD: Final = b"\x28\xb5\x2f\xfd"
_LEVEL: Final = 6
_BLOCK: Final = 512


class _Shared(msgspec.Struct, frozen=True, array_like=True):
    """The stored form of `Attributes`."""

    kind: str
    mode: int
    uid: int
    gid: int
    device: tuple[int, int]
    xattrs: dict[bytes, bytes]


class _Document(msgspec.Struct, frozen=True, array_like=True):
    compression: str
    size: int
    damage: str
    count: int
    shared: list[_Shared]
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
        [_stored(one) for one in table.shared],
        _split("I", table.attributes),
        _split("I", _lengths(table.paths)),
        table.paths.joined,
        _split("I", _lengths(table.links)),
        table.links.joined,
        _split("q", table.seconds),
        _split("I", table.nanoseconds),
        _split("q", table.sizes),
        _split("q", _gaps(table)),
        _split("Q", table.file_checksums),
        dict(table.segments),
        _split("I", table.checksums),
        table.points,
    )
    plain = msgspec.msgpack.encode(document)
    body = plain if len(plain) <= _SMALL else _zstd().compress(plain, _LEVEL)
    return HEADER + crc32(body).to_bytes(_CHECKSUM) + body


def load(data: bytes) -> LayerTable | None:
    """Return the table in a document, None if it has another version; raise BrokenArchive."""
    plain = _plain(data)
    if plain is None:
        return None
    document = msgspec.msgpack.decode(plain, type=_Document)
    shared = tuple(_shared(one) for one in document.shared)
    sizes = _joined("q", document.sizes)
    return LayerTable(
        document.compression,
        document.size,
        document.damage,
        Texts(document.paths, _ends(document.path_lengths)),
        Texts(document.links, _ends(document.link_lengths)),
        shared,
        _joined("I", document.attributes),
        _joined("q", document.seconds),
        _joined("I", document.nanoseconds),
        sizes,
        _starts(document, sizes),
        _joined("Q", document.file_checksums),
        document.segments,
        _joined("I", document.checksums),
        document.points,
    )


def load_positions(data: bytes) -> LayerTable | None:
    """Return a table as `load` does, but without entries, which take most of its memory."""
    plain = _plain(data)
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
        checksums=_joined("I", decode(checksums, type=bytes)),
        points=decode(points, type=tuple[Point, ...]),
    )


def _plain(data: bytes) -> bytes | memoryview | None:
    """Return the encoded table, None if it has another version; raise BrokenArchive."""
    if not data.startswith(HEADER):
        return None
    start = len(HEADER) + _CHECKSUM
    body = memoryview(data)[start:]
    expected, found = int.from_bytes(data[len(HEADER) : start]), crc32(body)
    if expected != found:
        what = f"expected the checksum {expected:08x}, found {found:08x}"
        raise BrokenArchive("", f"is a damaged layer table: {what}")
    return body if bytes(body[:4]) != _ZSTD else _zstd().decompress(body)


def _zstd() -> ModuleType:
    """Return the module zstd, which small tables do without."""
    if sys.version_info >= (3, 14):
        from compression import zstd
    else:
        from backports import zstd
    return zstd


def _stored(shared: Attributes) -> _Shared:
    xattrs = {k.encode("utf-8", "surrogateescape"): v for k, v in sorted(shared.xattrs.items())}
    return _Shared(shared.kind, shared.mode, shared.uid, shared.gid, shared.device, xattrs)


def _shared(stored: _Shared) -> Attributes:
    xattrs = {k.decode("utf-8", "surrogateescape"): v for k, v in stored.xattrs.items()}
    return Attributes(
        stored.kind, stored.mode, stored.uid, stored.gid, stored.device, xattrs or NO_XATTRS
    )


def _lengths(texts: Texts) -> Iterable[int]:
    ends = texts.ends
    return map(int.__sub__, ends, chain((0,), ends))


def _ends(lengths: bytes) -> "array[int]":
    return array("I", accumulate(_joined("I", lengths)))


def _gaps(table: LayerTable) -> Iterable[int]:
    """Yield how far each start is from where the stored bytes before it end, if all are stored."""
    end = 0
    for start, size in zip(table.starts, table.sizes, strict=True):
        yield start - end
        end = start + size + -size % _BLOCK


def _starts(document: _Document, sizes: "array[int]") -> "array[int]":
    starts = array("q")
    end = 0
    for gap, size in zip(_joined("q", document.gaps), sizes, strict=True):
        start = end + gap
        starts.append(start)
        end = start + size + -size % _BLOCK
    return starts


def _split(code: str, numbers: Iterable[int]) -> bytes:
    column = array(code, numbers)
    if sys.byteorder == "big":
        column.byteswap()
    raw, width = column.tobytes(), column.itemsize
    return b"".join(raw[byte::width] for byte in range(width))


def _joined(code: str, split: bytes) -> "array[int]":
    column = array(code)
    width = column.itemsize
    count = len(split) // width
    raw = bytearray(len(split))
    for byte in range(width):
        raw[byte::width] = split[byte * count : (byte + 1) * count]
    column.frombytes(raw)
    if sys.byteorder == "big":
        column.byteswap()
    return column

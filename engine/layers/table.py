"""The table of one layer: its entries, and the positions at which reading can start.

A `LayerTable` holds one column for each attribute, not one object for each entry, so that 200,000
entries take some 30 MB. Positions are offsets in the uncompressed layer, in bytes.
"""

from array import array
from collections.abc import Iterator, Mapping, Sequence
from itertools import accumulate
from typing import Final

import msgspec

from engine.tar.member import NO_XATTRS
from engine.units import NS_PER_SECOND

CHUNK: Final = 256 << 10
"""The number of uncompressed bytes that one checksum covers; the last chunk may be shorter."""


class Attributes(msgspec.Struct, frozen=True, gc=False):
    """The attributes that many entries have in common; `kind` and the others as in `tar.Member`."""

    kind: str
    mode: int
    uid: int
    gid: int
    device: tuple[int, int] = (0, 0)
    xattrs: Mapping[str, bytes] = NO_XATTRS


class Segment(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """A part of a sparse file that is stored: `length` bytes at `offset` of the file."""

    offset: int
    length: int


class Entry(msgspec.Struct, frozen=True, gc=False):
    """One entry of a layer, as its tar has it.

    `path` is relative to the root and normalized, "" for the root itself; whiteouts and opaque
    markers are entries too. `link` is the target of a symlink, or the normalized path of the
    target of a hard link. `size` is that of the expanded content in bytes, `start` the position of
    the stored bytes, and `segments` what they are of a sparse file; () if all of it is stored.
    `checksum` is the `FileChecksum` of the expanded content of a file, 0 if that is empty.
    """

    path: bytes
    attributes: Attributes
    mtime_ns: int
    size: int
    link: bytes
    start: int
    segments: tuple[Segment, ...] = ()
    checksum: int = 0


class Point(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """A position at which decompression can start.

    The next uncompressed byte is the one at `plain`; its compressed form begins in the byte at
    `stored`, of which the lower `used` bits belong to what precedes it. `window` is the history
    that the decoder needs, compressed; None where a gzip member or a zstd frame begins.
    """

    plain: int
    stored: int
    used: int = 0
    window: bytes | None = None


class Texts:
    """A column of byte strings."""

    def __init__(self, joined: bytes, ends: "array[int]") -> None:
        """`ends` are the offsets in `joined` at which the strings end."""
        self.joined = joined
        self.ends = ends

    @classmethod
    def of(cls, texts: Sequence[bytes]) -> "Texts":
        """Return a column of these strings."""
        return cls(b"".join(texts), array("I", accumulate(map(len, texts))))

    def __len__(self) -> int:
        return len(self.ends)

    def __getitem__(self, index: int) -> bytes:
        start = self.ends[index - 1] if index else 0
        return self.joined[start : self.ends[index]]

    def __iter__(self) -> Iterator[bytes]:
        joined, start = self.joined, 0
        for end in self.ends:
            yield joined[start:end]
            start = end


class LayerTable(msgspec.Struct, frozen=True, weakref=True):
    """The entries of a layer in its order, checksums of its bytes, and its points.

    `compression` is "gzip", "zstd" or "none", `size` that of the uncompressed layer. `damage` says
    why entries are missing at the end, "" if none are. `attributes` has a position in `shared` for
    each entry; `seconds` and `nanoseconds` are its time. `checksums` are the CRC-32 of each chunk
    of CHUNK uncompressed bytes; `points` are in order, and the first one is the beginning.
    """

    compression: str
    size: int
    damage: str
    paths: Texts
    links: Texts
    shared: tuple[Attributes, ...]
    attributes: "array[int]"
    seconds: "array[int]"
    nanoseconds: "array[int]"
    sizes: "array[int]"
    starts: "array[int]"
    file_checksums: "array[int]"
    segments: Mapping[int, tuple[Segment, ...]]
    checksums: "array[int]"
    points: tuple[Point, ...]

    def __len__(self) -> int:
        return len(self.attributes)

    def entry(self, index: int) -> Entry:
        """Return one entry; raise IndexError."""
        return Entry(
            self.paths[index],
            self.shared[self.attributes[index]],
            self.seconds[index] * NS_PER_SECOND + self.nanoseconds[index],
            self.sizes[index],
            self.links[index],
            self.starts[index],
            self.segments.get(index, ()),
            self.file_checksums[index],
        )


class StoredLayer(msgspec.Struct, frozen=True):
    """A layer and its table."""

    digest: str
    table: LayerTable

"""Encode the header of a sparse member in PAX format 1.0, as GNU tar writes it.

GNU tar, libarchive, Go and Python expand such a member. The map of its segments precedes the data,
and the name in the header block is one that tells readers without that format what it is.
"""

from collections.abc import Iterable, Sequence
from itertools import chain

from msgspec.structs import replace

from engine.tar import header_encoder as encode
from engine.tar.header_encoder import Header

Segment = tuple[int, int]
"""The offset and the length of stored bytes of a file."""
_BASE = 80


def encode_sparse(header: Header, segments: Sequence[Segment]) -> bytes:
    """Return the blocks that precede the stored bytes of a file of `header.size` bytes.

    `segments` are those that `aligned` returns; their bytes follow one another.
    """
    found = _map(header.size, segments)
    records = {
        **header.records,
        "GNU.sparse.major": b"1",
        "GNU.sparse.minor": b"0",
        "GNU.sparse.name": header.path.encode(errors="surrogateescape"),
        "GNU.sparse.realsize": b"%d" % header.size,
    }
    stored = len(found) + sum(length for _, length in segments)
    name = header.path.rpartition("/")[2].encode("ascii", "ignore")[:_BASE].decode()
    sparse = replace(header, path=f"GNUSparseFile.0/{name}", size=stored, records=records)
    return encode.encode(sparse) + found


def aligned(segments: Iterable[Segment], size: int) -> tuple[Segment, ...]:
    """Return segments of whole blocks that cover these, which are in order; the last one may end
    with the file of `size` bytes.

    GNU tar reads no others.
    """
    found: list[Segment] = []
    for offset, length in segments:
        if not length:
            continue
        start = offset - offset % encode.BLOCK
        end = min(size, offset + length + -(offset + length) % encode.BLOCK)
        if found and start <= sum(found[-1]):
            start = found.pop()[0]
        found.append((start, end - start))
    return tuple(found)


def _map(size: int, segments: Sequence[Segment]) -> bytes:
    """Return the map, whose last segment ends where the file does."""
    is_whole = segments and sum(segments[-1]) == size
    listed = segments if is_whole else (*segments, (size, 0))
    numbers = (len(listed), *chain.from_iterable(listed))
    text = b"".join(b"%d\n" % number for number in numbers)
    return text + encode.padding(len(text))

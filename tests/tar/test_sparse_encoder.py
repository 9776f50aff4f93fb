"""Sparse members as they are written, read by this package and by Python."""

import io
import tarfile

from hypothesis import given
from hypothesis import strategies as st

from engine.limits import Limits
from engine.tar import header_encoder as encode
from engine.tar.header_encoder import Header
from engine.tar.reader import MemberData, MemberHole, MemberStart, TarReader
from engine.tar.sparse import zeros
from engine.tar.sparse_encoder import aligned, encode_sparse

CONTENT = b"0123456789" * 60


@st.composite
def maps(draw: st.DrawFn) -> tuple[int, list[tuple[int, int]]]:
    """Return the size of a file, and its segments in order."""
    cuts = sorted(draw(st.sets(st.integers(0, 600), min_size=2, max_size=12)))
    pairs = zip(cuts[::2], cuts[1::2], strict=False)
    segments = [(start, end - start) for start, end in pairs]
    return draw(st.integers(sum(segments[-1]), 700)), segments


def sparse_tar(path: str, size: int, segments: list[tuple[int, int]]) -> tuple[bytes, bytes]:
    """Return an archive of one file, and its expanded content."""
    expanded = bytearray(size)
    stored = b""
    for start, length in segments:
        part = CONTENT[start : start + length]
        expanded[start : start + length] = part
        stored += part
    header = Header(path, mode=0o640, size=size, mtime=5, records={"mtime": b"5.25"})
    member = encode_sparse(header, segments) + stored + encode.padding(len(stored))
    return member + encode.END, bytes(expanded)


@given(maps(), st.sampled_from(["a", "d/é", "n" * 300, "\udcff", "d/" + "n" * 99]))
def test_readers_expand_it(found: tuple[int, list[tuple[int, int]]], path: str) -> None:
    archive, expected = sparse_tar(path, *found)
    with tarfile.open(fileobj=io.BytesIO(archive), errors="surrogateescape") as tar:
        (member,) = tar
        assert (member.name, member.size, member.mode) == (path, len(expected), 0o640)
        assert member.mtime == 5.25
        file = tar.extractfile(member)
        assert file is not None
        assert file.read() == expected
    reader = TarReader(Limits())
    events = list(reader.feed(memoryview(archive)))
    starts = [event.member for event in events if isinstance(event, MemberStart)]
    assert [(one.name, one.size, one.mtime_ns) for one in starts] == [
        (path, len(expected), 5_250_000_000)
    ]
    data = b""
    for event in events:
        match event:
            case MemberData(piece):
                data += piece
            case MemberHole(size):
                data += b"".join(zeros(size))
    assert data == expected


def test_segments_of_whole_blocks() -> None:
    assert aligned([(2, 3), (9, 3)], 14) == ((0, 14),)
    assert aligned([(2, 3), (600, 3), (2000, 0), (2048, 10)], 4000) == ((0, 1024), (2048, 512))
    assert aligned([(1024, 512), (1536, 1), (3999, 1)], 4000) == ((1024, 1024), (3584, 416))
    assert aligned([(700, 0)], 700) == ()


def test_a_file_that_is_one_hole() -> None:
    archive, _ = sparse_tar("hole", 700, [])
    with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
        file = tar.extractfile("hole")
        assert file is not None
        assert file.read() == bytes(700)

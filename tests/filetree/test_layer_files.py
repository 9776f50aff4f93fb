import hashlib
import tarfile

import pytest

from engine.errors import BrokenArchive, LimitExceeded
from engine.filetree.entry import LayerSpan
from engine.filetree.layer_files import LayerFile, read_file, read_layer
from engine.limits import Limits
from tests.filetree.layers import LIMITS, directory, file, hardlink, layer
from tests.tar.raw_tar import END, GNU, member, pax

SPARSE_MAP = b"2\n2\n3\n9\n1\n"
SPARSE = pax(
    {
        "GNU.sparse.major": 1,
        "GNU.sparse.minor": 0,
        "GNU.sparse.name": "sparse",
        "GNU.sparse.realsize": 12,
    }
) + member(b"GNUSparseFile.0/sparse", SPARSE_MAP + bytes(512 - len(SPARSE_MAP)) + b"abcd")
SPARSE_CONTENT = b"\0\0abc\0\0\0\0d\0\0"

LAYER = (
    member(b"first", b"x" * 1000)
    + SPARSE
    + member(b"././@LongLink", b"l" * 200 + b"\0", b"L", magic=GNU)
    + member(b"lll", b"long")
    + member(b"empty")
    + END
)
CONTENTS = {"first": b"x" * 1000, "sparse": SPARSE_CONTENT, "l" * 200: b"long", "empty": b""}


def chunks(data: bytes, size: int) -> list[bytes]:
    return [data[start : start + size] for start in range(0, len(data), size)]


def read(data: bytes, size: int = 1 << 20, limits: Limits = LIMITS) -> list[LayerFile]:
    return list(read_layer(chunks(data, size), 7, limits))


@pytest.mark.parametrize("size", [1, 512, 700, 1 << 20])
def test_a_file_is_found_where_its_span_says(size: int) -> None:
    found = {}
    for entry in read(LAYER, size):
        assert entry.content is not None
        assert entry.content.layer == 7
        data = b"".join(read_file(chunks(LAYER[entry.content.offset :], size), LIMITS))
        assert hashlib.sha256(data).digest() == entry.content.sha256
        assert len(data) == entry.member.size
        found[entry.member.name] = data
    assert found == CONTENTS


def test_only_files_have_content() -> None:
    data = layer(directory("d"), file("f", "x"), hardlink("g", "f"))
    spans = [entry.content for entry in read(data)]
    assert spans == [None, LayerSpan(7, 512, hashlib.sha256(b"x").digest()), None]


def test_an_empty_layer_has_no_files() -> None:
    assert read(END) == read(b"") == []


def test_a_file_is_read_no_further_than_its_end() -> None:
    def pieces() -> list[bytes]:
        return chunks(layer(file("a", "1"), file("b", "2")), 512)

    parts = iter(pieces())
    assert b"".join(read_file(parts, LIMITS)) == b"1"
    assert len(list(parts)) > len(pieces()) - 3


def test_what_is_behind_the_end_is_not_asked_for() -> None:
    rest = iter([layer(file("a"), format_=tarfile.USTAR_FORMAT), b"more"])
    assert [entry.member.name for entry in read_layer(rest, 0, LIMITS)] == ["a"]
    assert list(rest) == [b"more"]


TRUNCATED = {"within data": LAYER[:1000], "within a header": LAYER[:100], "a header": LAYER[:512]}


@pytest.mark.parametrize("data", TRUNCATED.values(), ids=TRUNCATED)
def test_refuses_a_truncated_layer(data: bytes) -> None:
    with pytest.raises(BrokenArchive, match="is truncated"):
        read(data)
    with pytest.raises(BrokenArchive, match="is truncated"):
        list(read_file([data], LIMITS))


def test_refuses_a_header_without_a_member_at_the_end() -> None:
    """As the reader of archives does."""
    with pytest.raises(BrokenArchive, match="is truncated"):
        read(pax({"path": "f"}) + END)


def test_refuses_more_than_the_limits() -> None:
    with pytest.raises(LimitExceeded):
        read(LAYER, limits=Limits(max_expanded_bytes=11))

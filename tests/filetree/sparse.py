"""A layer with a sparse member, and members whose names are long."""

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

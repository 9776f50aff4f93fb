"""Tests of the spool, which returns bytes that were written ahead of a gap in order and once."""

import tempfile
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from imgfs.imports.gap_spool import GapSpool


@given(
    data=st.binary(min_size=1, max_size=300),
    pieces=st.lists(st.tuples(st.integers(0, 299), st.integers(1, 80)), max_size=12),
)
def test_bytes_are_taken_in_order(data: bytes, pieces: list[tuple[int, int]]) -> None:
    spool = GapSpool(Path(tempfile.gettempdir()))
    held: set[int] = set()
    for offset, size in pieces:
        part = data[offset : offset + size]
        if part:
            spool.put(offset, part)
            held.update(range(offset, offset + len(part)))
    assert spool.first == min(held, default=None)
    assert spool.end == max(held, default=-1) + 1
    taken: dict[int, int] = {}
    for offset in range(len(data)):
        if offset in taken:
            continue
        found = spool.take(offset)
        taken.update((offset + i, byte) for i, byte in enumerate(found))
    assert taken == {i: data[i] for i in held}
    spool.close()

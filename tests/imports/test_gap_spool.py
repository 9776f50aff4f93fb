"""Tests of the spool, which returns bytes that were written ahead of a gap in order and once."""

import errno
import tempfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imgfs.imports import gap_spool
from imgfs.imports.gap_spool import GapSpool


@given(
    data=st.binary(min_size=1, max_size=300),
    pieces=st.lists(st.tuples(st.integers(0, 299), st.integers(1, 80)), max_size=40),
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


def test_many_spans_before_an_offset_are_dropped_at_once(tmp_path: Path) -> None:
    spool = GapSpool(tmp_path)
    for number in range(3000):
        spool.put(2 * number + 1, b"x")
    assert spool.take(6000) == b""
    assert (spool.first, spool.end) == (None, 0)
    spool.close()


def test_the_number_of_gaps_is_limited(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gap_spool, "_MOST", 3)
    spool = GapSpool(tmp_path)
    for offset in (1, 3, 5):
        spool.put(offset, b"x")
    with pytest.raises(OSError, match="at most 3 gaps") as refused:
        spool.put(7, b"x")
    assert refused.value.errno == errno.EFBIG
    spool.put(2, b"x")
    assert spool.take(1) == b"xxx"
    spool.put(7, b"x")
    assert (spool.first, spool.end) == (5, 8)
    spool.close()

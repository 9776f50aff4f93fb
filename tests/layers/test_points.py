"""The search for points."""

import gc
import zlib
from random import Random
from weakref import ref

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from engine.compression.entering import BlockDecoder
from engine.compression.inflate import WINDOW, BlockStart
from engine.layers.points import Candidate, PointFinder, Points, window_of
from tests.layers.layers import PLAIN, gzipped, zstd_frame


@pytest.mark.parametrize("compression", ["gzip", "zstd"])
def test_a_finder_is_released_at_once(compression: str) -> None:
    """Its buffers would add up over the layers of an image."""
    finder = PointFinder(compression)
    data = gzipped(PLAIN) if compression == "gzip" else zstd_frame(PLAIN)
    for _ in finder.feed(data):
        pass
    finder.finish()
    gone = ref(finder)
    gc.disable()
    try:
        del finder
        assert gone() is None
    finally:
        gc.enable()


@given(
    st.lists(
        st.tuples(st.binary(max_size=4), st.integers(-WINDOW, -1), st.integers(3, 300)),
        max_size=20,
    )
)
@example([(b"abc", -1, 4)])
@example([(b"abcd", -2, 4)])
def test_a_reduced_window_is_enough(copies: list[tuple[bytes, int, int]]) -> None:
    """The copies may begin in the window and go on behind it."""
    window = Random(1).randbytes(WINDOW)
    plain = b""
    for literal, start, size in copies:
        plain += literal
        plain += (window + plain)[WINDOW + start :][:size]
    deflate = zlib.compressobj(9, wbits=-15, zdict=window)
    following = deflate.compress(plain) + deflate.flush()
    points = Points()
    points.add([Candidate(0, 1 << 30, 0, window, following)])
    (point,) = points.result()
    start_of_block = BlockStart(0, 0, 0, window_of(point))
    found = BlockDecoder(start_of_block).decompress(following, WINDOW)
    assert found == plain[:WINDOW]

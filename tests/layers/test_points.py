"""The search for points."""

import gc
import tracemalloc
import zlib
from random import Random
from unittest import mock
from weakref import ref

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from engine.compression import block_finder
from engine.compression.entering import BlockDecoder
from engine.compression.inflate import WINDOW, BlockStart
from engine.layers.points import SPACING, Candidate, PointFinder, Points, window_of
from engine.tar.header_decoder import BLOCK
from tests.filetree.layers import file, layer
from tests.layers.layers import MIB, PLAIN, gzipped, words, zstd_frame


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


def test_a_block_that_ends_in_bits_that_are_read_already() -> None:
    """Of the block before the flush only the code of its end is left where a point is due."""
    cut, size = SPACING + 11, 6 << 20
    unit = b"663957647598 "
    body = bytearray((unit * (size // len(unit) + 1))[:size])
    place = cut - BLOCK
    body[place : place + 1] = b"x"
    plain = layer(file("f", body.decode()))
    deflate = zlib.compressobj(4, zlib.DEFLATED, 31)
    stored = deflate.compress(plain[:cut]) + deflate.flush(zlib.Z_SYNC_FLUSH)
    stored += deflate.compress(plain[cut:]) + deflate.flush()
    finder = PointFinder("gzip")
    assert b"".join(bytes(piece) for piece in finder.feed(stored)) == plain
    finder.finish()
    assert len(finder.take()) > 1


def test_many_members_share_the_memory_of_a_decoder() -> None:
    data = 100 * gzipped(b"")
    with mock.patch.object(block_finder, "State", wraps=block_finder.State) as state:
        finder = PointFinder("gzip")
        assert not list(finder.feed(data))
    finder.finish()
    assert state.call_count == 1


_FILLED = words(SPACING + 100)
_SKIPPABLE = b"\x50\x2a\x4d\x18" + (MIB - 8).to_bytes(4, "little") + bytes(MIB - 8)
_EMPTY_BLOCK = b"\0\0\0\xff\xff"


def _with_a_block_at_the_end() -> bytes:
    deflate = zlib.compressobj(6, wbits=31)
    stored = deflate.compress(_FILLED) + deflate.flush(zlib.Z_SYNC_FLUSH)
    return stored + deflate.compress(b"end") + deflate.flush()


def _with_empty_blocks() -> bytes:
    deflate = zlib.compressobj(6, wbits=31)
    stored = deflate.compress(_FILLED) + deflate.flush(zlib.Z_SYNC_FLUSH)
    return stored + _EMPTY_BLOCK * (8 * MIB // len(_EMPTY_BLOCK)) + deflate.flush()


_WITHOUT_OUTPUT = {
    "gzip, zeros": ("gzip", gzipped(b"text") + bytes(8 * MIB)),
    "gzip, zeros behind a block": ("gzip", _with_a_block_at_the_end() + bytes(8 * MIB)),
    "gzip, empty blocks": ("gzip", _with_empty_blocks()),
    "zstd, skippable frames": ("zstd", zstd_frame(b"text") + 8 * _SKIPPABLE),
}


@pytest.mark.parametrize("kind", _WITHOUT_OUTPUT)
def test_compressed_bytes_without_output_are_not_kept(kind: str) -> None:
    compression, stored = _WITHOUT_OUTPUT[kind]
    finder = PointFinder(compression)
    tracemalloc.start()
    try:
        for _ in finder.feed(stored):
            pass
        kept, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert kept < 3 * MIB
    finder.finish()


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

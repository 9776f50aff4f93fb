"""The starts of blocks of a gzip stream, found by isal."""

import gzip
import random
import zlib
from collections.abc import Iterator
from ctypes import CDLL
from unittest import mock

import pytest

from engine.compression import block_finder
from engine.compression.block_finder import BlockFinder, State
from engine.compression.entering import BlockDecoder
from engine.compression.inflate import WINDOW, BlockStart, Buffers, Inflater
from tests.compression.test_inflate import TEXT

NOISE = random.Random(3).randbytes(400_000)


def _small_blocks() -> bytes:
    deflate = zlib.compressobj(6, zlib.DEFLATED, 31, 1)
    return deflate.compress(TEXT) + deflate.flush()


def _flushed() -> bytes:
    deflate = zlib.compressobj(6, zlib.DEFLATED, 31, 9, zlib.Z_FIXED)
    parts = [TEXT[at : at + 70_001] for at in range(0, len(TEXT), 70_001)]
    return b"".join(deflate.compress(p) + deflate.flush(zlib.Z_SYNC_FLUSH) for p in parts) + (
        deflate.flush()
    )


STREAMS = {
    "dynamic": (TEXT, gzip.compress(TEXT, 6, mtime=0)),
    "many small": (TEXT, _small_blocks()),
    "fixed, with empty ones": (TEXT, _flushed()),
    "stored": (NOISE, gzip.compress(NOISE, 6, mtime=0)),
    "repeated": (bytes(3_000_000), gzip.compress(bytes(3_000_000), 9, mtime=0)),
}


class _Found:
    """Starts of blocks, at least `spacing` bytes apart."""

    def __init__(self, spacing: int) -> None:
        self._spacing = spacing
        self.starts: list[BlockStart] = []

    def __call__(self, start: BlockStart) -> int:
        self.starts.append(start)
        return start.plain + self._spacing


def found_in(data: bytes, step: int, size: int, spacing: int) -> tuple[bytes, list[BlockStart]]:
    found = _Found(spacing)
    decoder = BlockFinder(Buffers(1, size), found, spacing)
    out = bytearray()
    for start in range(0, len(data), step):
        out += decoder.decompress(data[start : start + step], 70_000)
        while not decoder.needs_input:
            out += decoder.decompress(b"", 70_000)
        if decoder.eof:
            rest = decoder.unused_data + data[start + step :]
            assert rest == b"behind"
            break
    assert decoder.eof
    return bytes(out), found.starts


@pytest.mark.parametrize("kind", STREAMS)
@pytest.mark.parametrize("step", [97, 5000, 1 << 22])
@pytest.mark.parametrize("size", [1000, 50_000])
def test_blocks_are_found(kind: str, step: int, size: int) -> None:
    text, stream = STREAMS[kind]
    out, starts = found_in(stream + b"behind", step, size, 100_000)
    assert out == text
    for start in starts:
        assert start.window == text[max(0, start.plain - WINDOW) : start.plain]
    for start in starts[:: 1 + len(starts) // 5]:
        rest = BlockDecoder(start).decompress(stream[start.stored :], len(text))
        assert rest == text[start.plain :]


@pytest.mark.parametrize("kind", ["dynamic", "many small", "fixed, with empty ones", "stored"])
def test_the_first_block_behind_a_place_is_found(kind: str) -> None:
    """It is one that zlib-ng knows, and the next one or one within two windows."""
    text, stream = STREAMS[kind]
    known = _Found(0)
    decoder = Inflater(Buffers(1, len(text)), known)
    assert decoder.decompress(stream, len(text)) == text
    places = {(one.plain, one.stored, one.used) for one in known.starts}
    plains = sorted({one.plain for one in known.starts})
    _, starts = found_in(stream + b"behind", len(stream) + 6, 50_000, 150_000)
    assert starts
    wanted = 150_000
    for start in starts:
        assert (start.plain, start.stored, start.used) in places
        assert start.plain <= next(p for p in plains if p >= wanted + 2 * WINDOW or p == plains[-1])
        wanted = start.plain + 150_000


def _repeating(seed: int) -> tuple[bytes, bytes, int]:
    """Return a text of few different bytes, a stream of it that is flushed often, and a spacing."""
    chance = random.Random(seed)
    deflate = zlib.compressobj(chance.randrange(1, 10), zlib.DEFLATED, 31)
    text, stream = bytearray(), bytearray()
    for _ in range(20):
        unit, size = chance.randbytes(chance.randrange(1, 16)), chance.randrange(1, 100_000)
        part = (unit * size)[:size]
        text += part
        stream += deflate.compress(part) + deflate.flush(chance.choice([1, 2, 3]))
    return bytes(text), bytes(stream + deflate.flush()), chance.randrange(1, 70_000)


@pytest.mark.parametrize("seed", [*range(10), 148, 1255])
@pytest.mark.parametrize("step", [5000, 1 << 20])
def test_a_block_may_end_in_bits_that_isal_holds(seed: int, step: int) -> None:
    """The last ones of the seeds are of streams in which nothing else is left of a block."""
    text, stream, spacing = _repeating(seed)
    out, starts = found_in(stream + b"behind", step, 1 << 20, spacing)
    assert out == text
    for start in starts[:: 1 + len(starts) // 5]:
        rest = BlockDecoder(start).decompress(stream[start.stored :], len(text))
        assert rest == text[start.plain :]


@pytest.mark.parametrize("end", [3, 5000, -20, -4, None])
def test_a_state_is_used_again(end: int | None) -> None:
    """Whatever became of the stream before."""
    state, found = State(), _Found(100_000)
    text, stream = STREAMS["dynamic"]
    buffers = Buffers(1, len(text))
    BlockFinder(buffers, found, 100_000, state).decompress(stream[:end], len(text))
    found.starts.clear()
    decoder = BlockFinder(buffers, found, 100_000, state)
    assert decoder.decompress(stream, len(text)) == text
    _, starts = found_in(stream + b"behind", len(stream), len(text), 100_000)
    assert found.starts == starts


@pytest.mark.parametrize("step", [1000, 1 << 20])
def test_a_damaged_stream_is_refused(step: int) -> None:
    stream = STREAMS["dynamic"][1]
    for place, error in ((0, "header"), (5000, "invalid|incorrect"), (len(stream) - 8, "checksum")):
        damaged = stream[:place] + bytes(byte ^ 0xFF for byte in stream[place : place + 8])
        damaged += stream[place + 8 :]
        with pytest.raises(ValueError, match=error):
            found_in(damaged, step, 50_000, 10_000)


@pytest.fixture
def _other_library(request: pytest.FixtureRequest) -> Iterator[None]:
    """Ask whether a library is usable that lacks the functions, or does something else."""
    block_finder.is_usable.cache_clear()
    with mock.patch.object(block_finder, "_library", return_value=request.param):
        yield
    block_finder.is_usable.cache_clear()


class _DoesNothing:
    @staticmethod
    def isal_inflate_init(_address: int) -> None:
        """Leave the state as it is."""

    @staticmethod
    def isal_inflate(_address: int) -> int:
        return 0


@pytest.mark.usefixtures("_other_library")
@pytest.mark.parametrize(
    "_other_library", [CDLL(None), _DoesNothing], indirect=True, ids=["without", "other"]
)
def test_another_library_is_not_used() -> None:
    assert not block_finder.is_usable()


def test_the_library_is_usable() -> None:
    assert block_finder.is_usable()

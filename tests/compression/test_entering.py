"""A gzip stream entered between its blocks by isal."""

import zlib

import pytest

from engine.compression.decoders import ERRORS
from engine.compression.entering import BlockDecoder
from engine.compression.inflate import BlockStart, Buffers, Inflater
from tests.compression.test_inflate import TEXT, inflated

SHORT_BLOCKS = 1
"""The level of memory at which zlib makes many blocks."""
_DEFLATE = zlib.compressobj(6, zlib.DEFLATED, 31, SHORT_BLOCKS)
STREAM = _DEFLATE.compress(TEXT) + _DEFLATE.flush()


def blocks() -> list[BlockStart]:
    found: list[BlockStart] = []

    def on_block(start: BlockStart) -> int:
        found.append(start)
        return 0

    inflated(Inflater(Buffers(1, 50_000), on_block=on_block), STREAM, len(STREAM))
    return found


BLOCKS = {start.used: start for start in blocks()}
"""A block for each number of bits that belong to what precedes it."""


@pytest.mark.parametrize("used", range(8))
@pytest.mark.parametrize("step", [1, 1000, len(STREAM) + 6])
def test_a_block_at_any_bit(used: int, step: int) -> None:
    start = BLOCKS[used]
    decoder = BlockDecoder(start)
    data = STREAM[start.stored :] + b"behind"
    out, rest = bytearray(), b""
    for place in range(0, len(data), step):
        out += decoder.decompress(data[place : place + step], 70_000)
        while not decoder.needs_input and not decoder.eof:
            out += decoder.decompress(b"", 70_000)
        if decoder.eof:
            rest = decoder.unused_data + data[place + step :]
            break
    assert out == TEXT[start.plain :]
    assert rest == b"behind"


def test_damaged_data_is_refused() -> None:
    with pytest.raises(ERRORS):
        BlockDecoder(BLOCKS[3]).decompress(b"\xff" * 100, len(TEXT))

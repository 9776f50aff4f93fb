"""A gzip decoder that starts at a block within a stream.

isal starts at a byte, a block at any bit. Empty blocks are put before it that end at this bit. So a
layer is decompressed faster than by zlib-ng, which starts at bits.
"""

from functools import cache
from typing import Final

from isal import igzip_lib

from engine.compression.inflate import BlockStart

_TRAILER: Final = 8
"""The bytes of checksum and size behind a gzip stream."""
_FIXED: Final = (0b010, 10)
"""An empty block of fixed Huffman codes: its bits, the first one lowest, and their number."""
_DYNAMIC: Final = (0x4D5FF10000000000081C004, 91)
"""An empty block with a code of its own, for a literal and the end, so that their number is odd."""


class BlockDecoder:
    """A `Decoder` of one gzip stream from a block on; the checksum at its end is not verified."""

    def __init__(self, start: BlockStart) -> None:
        self._inner = igzip_lib.IgzipDecompressor(igzip_lib.DECOMP_DEFLATE, zdict=start.window)
        self._used = start.used
        self._trailer = _TRAILER
        self.eof = False
        self.unused_data = b""

    @property
    def needs_input(self) -> bool:
        return self._inner.eof or self._inner.needs_input

    def decompress(self, data: bytes | memoryview, max_length: int, /) -> bytes:
        """Return up to `max_length` bytes; raise an error of `decoders.ERRORS` for damaged data."""
        if self._inner.eof:
            self._skip(bytes(data))
            return b""
        if self._used and data:
            data = _from_bit(self._used, bytes(data))
            self._used = 0
        made: bytes = self._inner.decompress(data, max_length)
        if self._inner.eof:
            self._skip(self._inner.unused_data)
        return made

    def _skip(self, data: bytes) -> None:
        """Take the next bytes behind the last block."""
        rest = data[self._trailer :]
        self._trailer -= len(data) - len(rest)
        self.eof, self.unused_data = not self._trailer, rest


def _from_bit(used: int, data: bytes) -> bytes:
    """Return `data` with empty blocks in the place of its first `used` bits."""
    blocks, length = _empty_blocks(used)
    first = blocks | data[0] >> used << length
    return first.to_bytes(length + 8 - used >> 3, "little") + data[1:]


@cache
def _empty_blocks(used: int) -> tuple[int, int]:
    """Return empty blocks that end `used` bits behind a byte: their bits, and the number."""
    bits, length = _DYNAMIC if used % 2 else (0, 0)
    while length % 8 != used:
        bits |= _FIXED[0] << length
        length += _FIXED[1]
    return bits, length

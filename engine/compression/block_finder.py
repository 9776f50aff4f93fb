"""A gzip decoder that finds the starts of blocks, by isal.

isal decodes faster than zlib-ng, but has no function to stop between two blocks. It does stop
behind the last block, and its state says at which bit. So where a block is looked for, the one that
is being decoded is marked as the last one, for the time of a call. The state is that of isa-l's
public header, which has been the same since version 2.25. The module `igzip_lib` exports the
functions without saying so, so `is_usable` tries them.
"""

import zlib
from collections.abc import Callable
from ctypes import (
    CDLL,
    Structure,
    addressof,
    c_char_p,
    c_int,
    c_int16,
    c_int32,
    c_uint8,
    c_uint32,
    c_uint64,
    c_void_p,
    cast,
    string_at,
)
from functools import cache
from typing import Final

from isal import igzip_lib

from engine.compression.decoders import ERRORS
from engine.compression.entering import BlockDecoder
from engine.compression.inflate import WINDOW, BlockStart, Buffers

_GZIP: Final = 1
_NEW_HEADER, _IN_HEADER, _STORED, _CODED, _INPUT_DONE, _FINISHED = range(6)
_ERRORS: Final = {
    -1: "invalid block",
    -2: "invalid symbol",
    -3: "invalid distance",
    -4: "invalid header",
    -5: "unknown method",
    -6: "incorrect checksum",
}
_CODES: Final = 18912 + 2208
_HEADER: Final = 328
_HELD: Final = 2 * WINDOW
_SPARE: Final = 64 << 10
_FAILURES: tuple[type[Exception], ...] = (AttributeError, *ERRORS)


class State(Structure):
    """The memory of a finder: isa-l's inflate_state, with space behind it.

    `held` has `held_size` bytes of output, of which `passed_on` have left it.
    """

    _fields_ = (
        ("next_out", c_void_p),
        ("avail_out", c_uint32),
        ("total_out", c_uint32),
        ("next_in", c_void_p),
        ("read_in", c_uint64),
        ("avail_in", c_uint32),
        ("read_in_length", c_int32),
        ("codes", c_uint8 * _CODES),
        ("block_state", c_int),
        ("dict_length", c_uint32),
        ("is_last_block", c_uint32),
        ("wrapper", c_uint32),
        ("crc", c_uint32),
        ("hist_bits", c_uint32),
        ("count", c_int32),
        ("overflow", c_int32 * 4),
        ("wrapper_flag", c_int16),
        ("header_size", c_int16),
        ("held_size", c_int32),
        ("passed_on", c_int32),
        ("header", c_uint8 * _HEADER),
        ("held", c_uint8 * _HELD),
        ("spare", c_uint8 * _SPARE),
    )


@cache
def _library() -> CDLL:
    library = CDLL(igzip_lib.__file__)
    for function in (library.isal_inflate_init, library.isal_inflate):
        function.argtypes = (c_void_p,)
    return library


class BlockFinder:
    """A `Decoder` of one gzip stream that calls `on_block` with starts of blocks."""

    def __init__(
        self,
        buffers: Buffers,
        on_block: Callable[[BlockStart], int],
        first_block: int,
        state: State | None = None,
    ) -> None:
        """Use `buffers` for output; several decoders may share them if they do not run at a time.
        Those that follow one another may share a `state`, too.

        `on_block` is called with the first block that starts behind `first_block` uncompressed
        bytes, or at most the size of a window later, and returns that number for the next call.
        """
        self._inflate: Callable[[int], int] = _library().isal_inflate
        self._state = state or State()
        self._address = addressof(self._state)
        _library().isal_inflate_init(self._address)
        self._state.wrapper = _GZIP
        self._buffers = buffers
        self._on_block = on_block
        self._next_block = first_block
        self._is_last = False
        self._input = b""
        self._fed = 0
        self._made = 0
        self._room = 0
        self.needs_input = True
        self.eof = False
        self.unused_data = b""

    def decompress(self, data: bytes | memoryview, max_length: int, /) -> memoryview:
        """Return up to `max_length` bytes in a buffer; raise ValueError for a damaged stream."""
        state = self._state
        if data:
            self._input = data if isinstance(data, bytes) else bytes(data)
            self._fed += len(data)
            state.next_in = cast(c_char_p(self._input), c_void_p).value
            state.avail_in = len(data)
        most = self._room = min(max_length, self._buffers.size)
        state.next_out = self._buffers.address
        while self._room and self._advance():
            pass
        self.eof = state.block_state == _FINISHED
        self.needs_input = self.eof or self._room > 0
        if self._room and not self.eof and state.avail_in:
            raise ValueError("its blocks cannot be distinguished")
        if self.eof:
            self.unused_data = self._input[len(self._input) - state.avail_in :]
        return self._buffers.take(most - self._room)

    def _advance(self) -> bool:
        """Decode; return whether more can be decoded if there is room."""
        state = self._state
        missing = self._next_block - self._made
        if self._is_last or missing > 0:
            wanted = self._room if self._is_last else min(self._room, missing)
            return self._decode(wanted) == wanted
        # Behind the last block isal drops the bits that remain, unless some output is left.
        waiting = state.held_size - state.passed_on
        if not waiting:
            return self._decode(1) == 1
        if state.block_state in (_NEW_HEADER, _IN_HEADER):
            self._next_block = self._report(self._made + waiting)
        elif state.is_last_block:
            self._is_last = True
        elif state.held_size < _HELD:
            return self._decode_block()
        else:
            self._decode(min(self._room, waiting - 1))
        return True

    def _decode_block(self) -> bool:
        """Decode what the state has space for, up to the end of the block; return whether there was
        anything.
        """
        state = self._state
        before = self._progress()
        state.is_last_block = 1
        self._decode(0)
        state.is_last_block = 0
        if state.block_state == _INPUT_DONE:
            state.block_state = _NEW_HEADER
        return before != self._progress()

    def _progress(self) -> tuple[int, ...]:
        """Return what a call changes that decodes anything, be it bits that isal holds already."""
        state = self._state
        return (
            state.avail_in,
            state.read_in_length,
            state.block_state,
            state.held_size,
            state.passed_on,
        )

    def _decode(self, size: int) -> int:
        """Decode, pass on up to `size` bytes of output, and return how many."""
        state = self._state
        state.avail_out = size
        code = self._inflate(self._address)
        if code < 0:
            raise ValueError(_ERRORS.get(code, f"error {code}"))
        made: int = size - state.avail_out
        self._made += made
        self._room -= made
        return made

    def _report(self, plain: int) -> int:
        state = self._state
        size = min(state.held_size, WINDOW)
        end = self._address + State.held.offset + state.held_size
        before = self._fed - state.avail_in
        if state.block_state == _IN_HEADER:
            before -= state.header_size
        stored, used = divmod(8 * before - state.read_in_length, 8)
        return self._on_block(BlockStart(plain, stored, used, string_at(end - size, size)))


@cache
def is_usable() -> bool:
    """Return whether the library has the functions, and finds a block that can be entered."""
    text = bytes(range(256)) * 512
    deflate = zlib.compressobj(1, wbits=31)
    stream = deflate.compress(text) + deflate.flush(zlib.Z_SYNC_FLUSH)
    stream += deflate.compress(text) + deflate.flush()
    size = 2 * len(text)
    found: list[BlockStart] = []

    def on_block(start: BlockStart) -> int:
        found.append(start)
        return size

    try:
        whole = BlockFinder(Buffers(1, size), on_block, len(text) // 2).decompress(stream, size)
        rest = [BlockDecoder(one).decompress(stream[one.stored :], size) for one in found]
    except _FAILURES:
        return False
    return whole == 2 * text and rest == [whole[one.plain :] for one in found] != []

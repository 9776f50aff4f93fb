"""A gzip decoder that notes where it can be entered.

Python's modules cannot stop between two blocks of a deflate stream, so zlib-ng is called through
ctypes, which releases the interpreter lock: the library that the module `zlib_ng` has inside, or
else the system's zlib. Both have the functions of zlib, and structures of one form.
"""

from collections.abc import Callable
from ctypes import (
    CDLL,
    Structure,
    addressof,
    byref,
    c_char_p,
    c_int,
    c_size_t,
    c_uint,
    c_ulong,
    c_void_p,
    cast,
    create_string_buffer,
)
from functools import cache
from typing import Any, Final

import msgspec
from zlib_ng import zlib_ng

WINDOW: Final = 32 << 10
"""The bytes of history that a deflate stream refers to."""
_NG_PREFIX = "zng_"
_NO_FLUSH, _BLOCK = 0, 5
_OK, _STREAM_END, _BUF_ERROR = 0, 1, -5
_GZIP = 16 + 15
_AFTER_BLOCK, _IN_LAST_BLOCK = 128, 64


class BlockStart(msgspec.Struct, frozen=True):
    """The start of a block within a gzip stream.

    Before it are `plain` uncompressed bytes, the last of which are `window`, and `stored` bytes of
    the stream, of which the next one has `used` bits that belong to what is before it.
    """

    plain: int
    stored: int
    used: int
    window: bytes


class _Stream(Structure):
    """zlib's z_stream, which zlib-ng's zng_stream is equal to up to `data_type`."""

    _fields_ = (
        ("next_in", c_void_p),
        ("avail_in", c_uint),
        ("total_in", c_size_t),
        ("next_out", c_void_p),
        ("avail_out", c_uint),
        ("total_out", c_size_t),
        ("msg", c_char_p),
        ("state", c_void_p),
        ("zalloc", c_void_p),
        ("zfree", c_void_p),
        ("opaque", c_void_p),
        ("data_type", c_int),
        ("adler", c_ulong),
        ("reserved", c_ulong),
    )


class Buffers:
    """Buffers for output that are used in turn.

    What was written to one stays until `count` - 1 others have been used.
    """

    def __init__(self, count: int, size: int) -> None:
        """`size` is that of each buffer in bytes."""
        self.size = size
        self._arrays = [create_string_buffer(size) for _ in range(count)]
        self._current = 0

    @property
    def address(self) -> int:
        """The address of the buffer that is used next."""
        return addressof(self._arrays[self._current])

    def take(self, size: int) -> memoryview:
        """Return the first `size` bytes of the current buffer, and go on to the next one."""
        taken = memoryview(self._arrays[self._current]).cast("B")[:size]
        if size:
            self._current = (self._current + 1) % len(self._arrays)
        return taken


class _Library:
    """The functions of zlib."""

    def __init__(self, library: CDLL, prefix: str, version: bytes, size: int) -> None:
        def function(name: str, *arguments: Any) -> Callable[..., int]:
            found = getattr(library, f"{prefix}{name}")
            found.argtypes = (c_void_p, *arguments)
            found.restype = c_int
            return found  # type: ignore[no-any-return]  # a function of ctypes has no type

        self._version = version
        self._size = size
        self._init = function("inflateInit2_", c_int, c_char_p, c_int)
        self.inflate = function("inflate", c_int)
        self.end = function("inflateEnd")
        self.dictionary = function("inflateGetDictionary", c_char_p, c_void_p)

    def init(self, stream: int) -> None:
        if self._init(stream, _GZIP, self._version, self._size) != _OK:
            raise MemoryError


@cache
def library() -> _Library:
    """Return the library inside the module zlib_ng, or the system's if it exports no functions."""
    inside = CDLL(zlib_ng.__file__)
    if hasattr(inside, f"{_NG_PREFIX}inflateInit2_"):
        return _Library(inside, _NG_PREFIX, b"2", _Stream.reserved.offset)
    return _Library(CDLL("libz.so.1"), "", b"1", _Stream.reserved.offset + 8)


class Inflater:
    """A `Decoder` of one gzip stream."""

    def __init__(
        self,
        buffers: Buffers,
        on_block: Callable[[BlockStart], int] | None = None,
        first_block: int = 0,
    ) -> None:
        """Use `buffers` for output; several decoders may share them if they do not run at a time.

        `on_block` is called with the first block that starts behind `first_block` uncompressed
        bytes, and returns that number for the next call.
        """
        self._library = library()
        self._stream = _Stream()
        self._address = addressof(self._stream)
        self._library.init(self._address)
        self._buffers = buffers
        self._on_block = on_block
        self._next_block = first_block
        self._input = b""
        self.needs_input = True
        self.eof = False
        self.unused_data = b""

    def __del__(self) -> None:
        self._library.end(self._address)

    def decompress(self, data: bytes | memoryview, max_length: int, /) -> memoryview:
        """Return up to `max_length` bytes in a buffer; raise ValueError for a damaged stream."""
        if data:
            self._take(data if isinstance(data, bytes) else bytes(data))
        stream, most = self._stream, min(max_length, self._buffers.size)
        stream.next_out = self._buffers.address
        stream.avail_out = most
        while not self.eof and stream.avail_out:
            self._step()
            if not stream.avail_in:
                break
        made = most - stream.avail_out
        self.needs_input = self.eof or made < most
        return self._buffers.take(made)

    def _take(self, data: bytes) -> None:
        self._input = data
        self._stream.next_in = cast(c_char_p(data), c_void_p).value
        self._stream.avail_in = len(data)

    def _step(self) -> None:
        stream = self._stream
        stops = self._on_block is not None and stream.total_out >= self._next_block
        code = self._library.inflate(self._address, _BLOCK if stops else _NO_FLUSH)
        if code == _STREAM_END:
            self.eof = True
            self.unused_data = self._input[len(self._input) - stream.avail_in :]
        elif code not in (_OK, _BUF_ERROR):
            raise ValueError((stream.msg or b"it needs a dictionary").decode())
        elif self._on_block and stops and self._is_between_blocks():
            self._next_block = self._report(self._on_block)

    def _is_between_blocks(self) -> bool:
        state = self._stream.data_type
        return bool(state & _AFTER_BLOCK and not state & _IN_LAST_BLOCK)

    def _report(self, on_block: Callable[[BlockStart], int]) -> int:
        stream = self._stream
        window, size = create_string_buffer(WINDOW), c_uint()
        self._library.dictionary(self._address, window, byref(size))
        unused = stream.data_type & 7
        return on_block(
            BlockStart(
                stream.total_out,
                stream.total_in - (1 if unused else 0),
                8 - unused if unused else 0,
                window.raw[: size.value],
            )
        )

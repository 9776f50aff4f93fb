"""Decoders of single compressed streams, with the interface of the standard library's
decompressors.

`engine.compression.decompress` imports it with the first compressed stream: loading the
libraries takes half as long as the start of Python.
"""

import bz2
import lzma
import sys
from collections.abc import Callable
from typing import Final, Protocol

import msgspec
from isal import igzip_lib
from zlib_ng import zlib_ng

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

from engine.errors import BrokenArchive

_XZ_MEMORY: Final = 128 << 20
_ZSTD_WINDOW_LOG: Final = 27
_ZSTD_WINDOW: Final = 1 << _ZSTD_WINDOW_LOG
_ZSTD_HEADER: Final = 18
"""The largest size of a frame header, in bytes."""
_GZIP_WBITS: Final = 16 + 15
_GZIP_CHECKSUM, _GZIP_EXTRA, _GZIP_NAME, _GZIP_COMMENT, _GZIP_RESERVED = 2, 4, 8, 16, 0xE0

ERRORS: tuple[type[Exception], ...] = (  # type: ignore[assignment]  # isal calls a class an instance
    OSError,
    ValueError,
    EOFError,
    RuntimeError,  # lz4's
    lzma.LZMAError,
    zstd.ZstdError,
    igzip_lib.IsalError,
    zlib_ng.error,
)
"""The exceptions that decoders raise for a damaged stream."""


class Decoder(Protocol):
    """The interface that the standard library's decompressors share."""

    @property
    def eof(self) -> bool: ...

    @property
    def needs_input(self) -> bool: ...

    @property
    def unused_data(self) -> bytes: ...

    def decompress(self, data: bytes | memoryview, max_length: int, /) -> bytes: ...


def gzip() -> Decoder:
    """Return a fast gzip decoder, which cannot be copied."""
    return igzip_lib.IgzipDecompressor(flag=igzip_lib.DECOMP_GZIP)


def xz() -> Decoder:
    """Return an xz decoder that uses a bounded amount of memory."""
    return lzma.LZMADecompressor(lzma.FORMAT_XZ, _XZ_MEMORY)


def lzma_alone() -> Decoder:
    """Return a decoder of the legacy .lzma format that uses a bounded amount of memory."""
    return lzma.LZMADecompressor(lzma.FORMAT_ALONE, _XZ_MEMORY)


def lz4() -> Decoder:
    """Return a decoder of lz4 frames."""
    from lz4 import frame

    decoder: Decoder = frame.LZ4FrameDecompressor()
    return decoder


class CopyableGzip:
    """A gzip decoder by zlib-ng, which can be copied; that of isal cannot."""

    def __init__(self, inner: "zlib_ng._Decompress | None" = None) -> None:
        self._inner = inner or zlib_ng.decompressobj(wbits=_GZIP_WBITS)
        self.needs_input = True

    @property
    def eof(self) -> bool:
        return self._inner.eof

    @property
    def unused_data(self) -> bytes:
        return self._inner.unused_data

    def decompress(self, data: bytes | memoryview, max_length: int, /) -> bytes:
        out = self._inner.decompress(self._inner.unconsumed_tail or data, max_length)
        self.needs_input = len(out) < max_length and not self._inner.unconsumed_tail
        return out

    def copy(self) -> "CopyableGzip":
        return CopyableGzip(self._inner.copy())  # type: ignore[attr-defined]  # not in its stub


class SizedZstd:
    """A decoder of one zstd frame that checks the content size in the header of the frame.

    libzstd alone accepts a frame that an empty last block ends too early, if that block arrives in
    a separate piece.
    """

    def __init__(self) -> None:
        self._inner = zstd.ZstdDecompressor(
            options={zstd.DecompressionParameter.window_log_max: _ZSTD_WINDOW_LOG}
        )
        self._size: int | None = None
        self._made = 0
        self._begun = False

    @property
    def eof(self) -> bool:
        return self._inner.eof

    @property
    def needs_input(self) -> bool:
        return self._inner.needs_input

    @property
    def unused_data(self) -> bytes:
        return self._inner.unused_data

    def decompress(self, data: bytes | memoryview, max_length: int, /) -> bytes:
        if not self._begun:
            self._begun, self._size = True, zstd.get_frame_info(data).decompressed_size
            if (window := _zstd_window(bytes(data[:_ZSTD_HEADER]), self._size)) > _ZSTD_WINDOW:
                raise BrokenArchive(
                    "",
                    f"is a zstd stream with a window of {window >> 20} MiB, more than the "
                    f"{_ZSTD_WINDOW >> 20} MiB that are read: compress it without --long",
                )
        out = self._inner.decompress(data, max_length)
        self._made += len(out)
        if self._inner.eof and self._size is not None and self._made != self._size:
            raise ValueError(f"a frame has {self._made} bytes and not {self._size}")
        return out


def _zstd_window(header: bytes, size: int | None) -> int:
    """Return the window size of a frame in bytes, 0 for a skippable frame (RFC 8878, 3.1.1.1)."""
    if not header.startswith(b"\x28\xb5\x2f\xfd"):
        return 0
    if header[4] & 0x20:  # a single segment: the window is the content
        return size or 0
    exponent, mantissa = divmod(header[5], 8)
    base = 1 << 10 + exponent
    return base + base // 8 * mantissa


def has_zstd_header(head: bytes) -> bool:
    """Return whether `head` holds a complete frame header, or cannot be the start of a frame."""
    try:
        zstd.get_frame_info(head)
    except zstd.ZstdError:
        return len(head) >= _ZSTD_HEADER
    return True


def has_gzip_header(head: bytes) -> bool:
    """Return whether `head` holds a complete gzip header, which isal requires in one piece.

    Raise BrokenArchive for reserved flags, which RFC 1952 requires a decoder to reject and isal
    ignores.
    """
    flags = head[3] if len(head) > 3 else 0
    if flags & _GZIP_RESERVED:
        raise BrokenArchive("", f"is a damaged gzip stream: it has unknown flags: {flags:#x}")
    end = 10
    if flags & _GZIP_EXTRA:
        end += 2 + int.from_bytes(head[10:12], "little")
    for flag in (_GZIP_NAME, _GZIP_COMMENT):
        if flags & flag:
            end = head.find(b"\0", end) + 1 or len(head) + 1
    if flags & _GZIP_CHECKSUM:
        end += 2
    return len(head) >= end


def has_magic(head: bytes) -> bool:  # noqa: ARG001 (a format's `has_header`)
    """Return True: the decoders of this format accept a header in pieces."""
    return True


class Format(msgspec.Struct, frozen=True):
    """`start` returns a decoder for a stream whose header is complete by `has_header`."""

    start: Callable[[], Decoder]
    has_header: Callable[[bytes], bool] = has_magic


FORMATS: Final = {
    "gzip": Format(gzip, has_gzip_header),
    "zstd": Format(SizedZstd, has_zstd_header),
    "xz": Format(xz),
    "bzip2": Format(bz2.BZ2Decompressor),
    "lzma": Format(lzma_alone),
    "lz4": Format(lz4),
}
RESUMABLE_FORMATS: Final = {**FORMATS, "gzip": Format(CopyableGzip)}

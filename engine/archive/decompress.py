"""Decompression as bytes arrive, of whole archives and of the layers in them.

A decompressor is fed and yields what comes out in chunks of at most a MiB, so that memory does not
grow however much a stream expands. Streams may follow one another, as the command-line tools allow.
Whatever is wrong is a BrokenArchive without a member; the caller knows what it was decompressing.
"""

import bz2
import lzma
import sys
from collections.abc import Callable, Iterator
from typing import Protocol

from isal import igzip_lib

from engine.errors import BrokenArchive

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

SNIFFED = 6
"""How many first bytes tell what a stream is."""

_CHUNK = 1 << 20
_XZ_MEMORY = 256 << 20
_ZSTD_WINDOW_LOG = 27

_MAGIC = (
    (b"\x1f\x8b\x08", "gzip"),
    (b"\x28\xb5\x2f\xfd", "zstd"),
    (b"\xfd7zXZ\x00", "xz"),
    (b"BZh", "bzip2"),
)
_SKIPPABLE_ZSTD = range(0x184D2A50, 0x184D2A60)


class Decompressor(Protocol):
    """What takes a compressed stream in pieces."""

    def feed(self, data: bytes | memoryview) -> Iterator[bytes | memoryview]:
        """What comes out of the next piece; to be exhausted before the next call. BrokenArchive."""

    def finish(self) -> None:
        """BrokenArchive if the stream is not complete; more may be fed all the same."""


def sniff(head: bytes) -> str:
    """The compression of a stream whose first `SNIFFED` bytes (or all of it) are `head`.

    "gzip", "zstd", "xz", "bzip2" or "none".
    """
    if int.from_bytes(head[:4], "little") in _SKIPPABLE_ZSTD:
        return "zstd"
    return next((name for magic, name in _MAGIC if head.startswith(magic)), "none")


def new(name: str) -> Decompressor:
    """A decompressor for what `sniff` names."""
    return _Plain() if name == "none" else _Streams(name, _DECODERS[name])


class Outer:
    """Whatever is around an archive: looks at its first bytes, then decompresses accordingly."""

    def __init__(self) -> None:
        self._head = b""
        self._inner: Decompressor | None = None

    def feed(self, data: bytes | memoryview) -> Iterator[bytes | memoryview]:
        """As `Decompressor.feed`."""
        if self._inner is None:
            if len(self._head) + len(data) < SNIFFED:
                self._head += bytes(data)
                return
            head = self._head + bytes(data[:SNIFFED])
            self._inner = new(sniff(head))
            yield from self._inner.feed(self._head)
        yield from self._inner.feed(data)

    def finish(self) -> None:
        """As `Decompressor.finish`."""
        if self._inner is not None:
            self._inner.finish()
        elif self._head:
            raise BrokenArchive("", f"is truncated: it ends after {len(self._head)} bytes")


class _Plain:
    def feed(self, data: bytes | memoryview) -> Iterator[bytes | memoryview]:
        if data:
            yield data

    def finish(self) -> None:
        """Nothing can be missing."""


class _Decoder(Protocol):
    """What the standard library's decompressor objects have in common."""

    @property
    def eof(self) -> bool: ...

    @property
    def needs_input(self) -> bool: ...

    @property
    def unused_data(self) -> bytes: ...

    def decompress(self, data: bytes | memoryview, max_length: int = -1, /) -> bytes: ...


class _Streams:
    """One stream after another; zeros may stand behind the last, as padding of a tape."""

    def __init__(self, name: str, decoder: Callable[[], _Decoder]) -> None:
        self._name = name
        self._new = decoder
        self._decoder: _Decoder | None = decoder()
        self._between = b""

    def feed(self, data: bytes | memoryview) -> Iterator[bytes]:
        while data:
            if self._decoder is None:
                data = self._begin(data)
                continue
            chunk = self._decompress(data)
            if chunk:
                yield chunk
            while not (self._decoder.eof or self._decoder.needs_input):
                chunk = self._decompress(b"")
                if not chunk:
                    break
                yield chunk
            if not self._decoder.eof:
                return
            data = self._decoder.unused_data
            self._decoder = None

    def finish(self) -> None:
        if self._decoder is not None:
            raise BrokenArchive("", f"is truncated: the {self._name} stream has no end")
        if self._between:
            raise BrokenArchive("", f"has garbage behind the {self._name} stream")

    def _begin(self, data: bytes | memoryview) -> bytes:
        """Start the next stream once its magic is here; what is to be fed to it."""
        rest = self._between + bytes(data)
        if not self._between:
            rest = rest.lstrip(b"\0")
        if len(rest) < SNIFFED:
            self._between = rest
            return b""
        if sniff(rest) != self._name:
            raise BrokenArchive("", f"has garbage behind the {self._name} stream")
        self._between = b""
        self._decoder = self._new()
        return rest

    def _decompress(self, data: bytes | memoryview) -> bytes:
        assert self._decoder is not None
        try:
            return self._decoder.decompress(data, _CHUNK)
        except _ERRORS as error:
            raise BrokenArchive("", f"is a damaged {self._name} stream: {error}") from error


_ERRORS: tuple[type[Exception], ...] = (  # type: ignore[assignment]  # isal calls a class an instance
    OSError,
    ValueError,
    EOFError,
    lzma.LZMAError,
    zstd.ZstdError,
    igzip_lib.IsalError,
)
_DECODERS: dict[str, Callable[[], _Decoder]] = {
    "gzip": lambda: igzip_lib.IgzipDecompressor(flag=igzip_lib.DECOMP_GZIP),
    "zstd": lambda: zstd.ZstdDecompressor(
        options={zstd.DecompressionParameter.window_log_max: _ZSTD_WINDOW_LOG}
    ),
    "xz": lambda: lzma.LZMADecompressor(lzma.FORMAT_XZ, _XZ_MEMORY),
    "bzip2": bz2.BZ2Decompressor,
}

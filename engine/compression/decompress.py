"""Streaming decompression of archives and of the layers in them.

A decompressor is fed with pieces of its input and yields output in pieces of at most BUFFER_SIZE
bytes, so its memory is bounded however much a stream expands. Streams may be concatenated, with
zeros between and after them, as the command-line tools accept. All errors are BrokenArchive without
a member, since only the caller knows what is being decompressed.

`decoders.py` holds the decoders and is imported with the first compressed stream.
"""

import re
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Protocol

import msgspec

from engine.errors import BrokenArchive, counted
from engine.limits import BUFFER_SIZE

if TYPE_CHECKING:
    from engine.compression.decoders import Decoder

SNIFFED = 14
"""The number of leading bytes that identify the format of a stream."""

_SLICE = 128 << 10
_MAX_HEADER = 1 << 20
_QUOTED = 16
_TAR_MAGIC = slice(257, 262)
_ENOUGH = 512
"""How many bytes tell what is behind a stream: as many as a tar archive's first header has."""
_GZIP_CHECKSUM, _GZIP_EXTRA, _GZIP_NAME, _GZIP_COMMENT, _GZIP_RESERVED = 2, 4, 8, 16, 0xE0


class Decompressor(Protocol):
    """A decompressor of a stream that arrives in pieces; for one thread at a time.

    `name` is the format, as `sniff` returns it.
    """

    @property
    def name(self) -> str: ...

    def feed(self, data: bytes | memoryview) -> Iterator[bytes | memoryview]:
        """Yield the output of the next piece; exhaust it before the next call.

        Raise BrokenArchive if the stream is damaged.
        """

    def finish(self) -> None:
        """Raise BrokenArchive if the stream is incomplete; feeding may continue after it."""


class StreamPosition(msgspec.Struct, frozen=True):
    """A position in a stream, as the number of compressed and of uncompressed bytes before it."""

    compressed: int = 0
    uncompressed: int = 0


_START = StreamPosition()


def sniff(head: bytes) -> str:
    """Return the compression of a stream that starts with `head`: its first SNIFFED bytes, or all
    of it.

    The result is "gzip", "zstd", "xz", "bzip2", "lzma", "lz4" or "none".
    """
    return next((name for name, f in _FORMATS.items() if f.magic.match(head)), "none")


def new(name: str) -> Decompressor:
    """Return a decompressor of the format `name`, as `sniff` returns it."""
    return _Plain() if name == "none" else located(name, lambda _: decoder_of(name))


def located(
    name: str,
    decoder: "Callable[[StreamPosition], Decoder]",
    start: StreamPosition = _START,
    current: "Decoder | None" = None,
) -> Decompressor:
    """Return a decompressor of the format `name` that decodes each stream by `decoder`.

    `decoder` is called with the position of the stream. The first byte that is fed is at `start`;
    `current` decodes it, if it does not begin a stream.
    """
    return _Streams(name, _FORMATS[name], decoder, start, current)


def decoder_of(name: str) -> "Decoder":
    """Return a decoder of one stream of the format `name`, which is not "none"."""
    return _FORMATS[name].decoder()


class ArchiveDecompressor:
    """A decompressor that detects the format from the first bytes that it is fed."""

    def __init__(self) -> None:
        self._head = b""
        self._inner: Decompressor | None = None

    @property
    def name(self) -> str:
        """The format, as `sniff` returns it; "" until it is detected."""
        return self._inner.name if self._inner else ""

    @property
    def undecided(self) -> bytes:
        """The bytes fed so far, as long as they are too few to detect the format."""
        return b"" if self._inner else self._head

    def feed(self, data: bytes | memoryview) -> Iterator[bytes | memoryview]:
        """Yield the output of the next piece, as `Decompressor.feed` does."""
        if self._inner is None:
            head = self._head + bytes(data[:SNIFFED])
            name = sniff(head)
            if name == "none" and len(head) < SNIFFED:
                self._head = head
                return
            self._inner = new(name)
            yield from self._inner.feed(self._head)
        yield from self._inner.feed(data)

    def finish(self) -> None:
        """Raise BrokenArchive if the stream is incomplete, as `Decompressor.finish` does."""
        if self._inner is not None:
            self._inner.finish()
        elif self._head:
            raise BrokenArchive(
                "", f"is truncated: it ends after {counted(len(self._head), 'byte')}"
            )


class _Plain:
    name = "none"

    def feed(self, data: bytes | memoryview) -> Iterator[bytes | memoryview]:
        if data:
            yield data

    def finish(self) -> None:
        """Do nothing: an uncompressed stream has no end marker."""


def _has_magic_only(head: bytes) -> bool:  # noqa: ARG001 (a format's `has_header`)
    """Return True: the decoders of this format accept a header in pieces."""
    return True


def _has_gzip_header(head: bytes) -> bool:
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


def _gzip() -> "Decoder":
    from engine.compression import decoders

    return decoders.gzip()


def _zstd() -> "Decoder":
    from engine.compression import decoders

    return decoders.SizedZstd()


def _has_zstd_header(head: bytes) -> bool:
    from engine.compression import decoders

    return decoders.has_zstd_header(head)


def _xz() -> "Decoder":
    from engine.compression import decoders

    return decoders.xz()


def _lzma() -> "Decoder":
    from engine.compression import decoders

    return decoders.lzma_alone()


def _lz4() -> "Decoder":
    from engine.compression import decoders

    return decoders.lz4()


def _bzip2() -> "Decoder":
    from engine.compression import decoders

    return decoders.bzip2()


class _Format(msgspec.Struct, frozen=True):
    """A compression format.

    `magic` matches the first `magic_size` bytes of a stream; `decoder` returns a decoder for a
    stream whose header is complete by `has_header`.
    """

    magic: re.Pattern[bytes]
    magic_size: int
    decoder: Callable[[], "Decoder"]
    has_header: Callable[[bytes], bool] = _has_magic_only


class _Streams:
    """A decompressor of concatenated streams of one format."""

    def __init__(
        self,
        name: str,
        format_: _Format,
        decoder: "Callable[[StreamPosition], Decoder]",
        start: StreamPosition,
        current: "Decoder | None",
    ) -> None:
        self.name = name
        self._format = format_
        self._new_decoder = decoder
        self._head = b""
        self._decoder = current
        self._complete = False
        self._fed = start.compressed
        self._made = start.uncompressed

    def feed(self, data: bytes | memoryview) -> Iterator[bytes | memoryview]:
        # A decoder copies the input after the end of its stream: slices keep that cheap where an
        # archive consists of many small streams.
        view = memoryview(data)
        for position in range(0, len(view), _SLICE):
            rest = data if len(view) <= _SLICE else view[position : position + _SLICE]
            self._fed += len(rest)
            while rest:
                if self._decoder is None:
                    rest = self._begin(rest)
                else:
                    yield from self._expand(self._decoder, rest)
                    rest = b""
                    if self._decoder.eof:
                        rest = self._decoder.unused_data
                        self._decoder, self._complete = None, True

    def finish(self) -> None:
        if self._complete and self._is_foreign(self._head):
            raise self._garbage(self._head)
        if self._decoder is not None or self._head or not self._complete:
            raise BrokenArchive("", f"is a truncated {self.name} stream: its end is missing")

    def _begin(self, data: bytes | memoryview) -> bytes:
        """Start the next stream once its header is complete; return what to feed to its decoder."""
        head = self._head + bytes(data)
        if not self._head and self._complete:
            head = head.lstrip(b"\0")
        self._head = head
        if len(head) < self._format.magic_size:
            return b""
        if self._is_foreign(head):
            if len(head) < _ENOUGH:
                return b""
            raise self._garbage(head)
        if not self._format.has_header(head):
            if len(head) > _MAX_HEADER:
                raise BrokenArchive("", f"is a damaged {self.name} stream: its header has no end")
            return b""
        self._head = b""
        self._decoder = self._new_decoder(StreamPosition(self._fed - len(head), self._made))
        return head

    def _is_foreign(self, head: bytes) -> bool:
        """Return whether these bytes begin no stream of this format."""
        return len(head) >= self._format.magic_size and not self._format.magic.match(head)

    def _garbage(self, head: bytes) -> BrokenArchive:
        other = sniff(head)
        if other != "none":
            found = f"a stream of another kind ({other})"
        elif head[_TAR_MAGIC] == b"ustar":
            found = "a tar archive that is not compressed"
        else:
            return BrokenArchive(
                "", f"has garbage behind a {self.name} stream: {ascii(head[:_QUOTED])[1:]}"
            )
        return BrokenArchive(
            "", f"has {found} behind a {self.name} stream: expected the end, or another such stream"
        )

    def _expand(self, decoder: "Decoder", data: bytes | memoryview) -> Iterator[bytes | memoryview]:
        from engine.compression.decoders import ERRORS

        while True:
            try:
                chunk = decoder.decompress(data, BUFFER_SIZE)
            except ERRORS as error:
                raise BrokenArchive("", f"is a damaged {self.name} stream: {error}") from error
            if chunk:
                self._made += len(chunk)
                yield chunk
            if decoder.eof or decoder.needs_input:
                return
            data = b""


_FORMATS = {
    "gzip": _Format(
        re.compile(rb"\x1f\x8b\x08"),
        3,
        _gzip,
        _has_gzip_header,
    ),
    "zstd": _Format(
        re.compile(rb"\x28\xb5\x2f\xfd|[\x50-\x5f]\x2a\x4d\x18"),
        4,
        _zstd,
        _has_zstd_header,
    ),
    "xz": _Format(
        re.compile(rb"\xfd7zXZ\x00"),
        6,
        _xz,
    ),
    "bzip2": _Format(re.compile(rb"BZh[1-9](?:1AY&SY|\x17\x72\x45\x38\x50\x90)"), 10, _bzip2),
    "lzma": _Format(
        # The usual properties, a dictionary of 64 KiB or more, and a plausible size or none.
        re.compile(rb"\x5d\x00\x00(?!\x00\x00)..(?:\xff{8}|.{5}\x00{3})\x00", re.DOTALL),
        14,
        _lzma,
    ),
    "lz4": _Format(re.compile(rb"\x04\x22\x4d\x18"), 4, _lz4),
}

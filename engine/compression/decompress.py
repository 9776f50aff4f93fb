"""Streaming decompression of archives and of the layers in them.

A decompressor is fed with pieces of its input and yields output in pieces of at most BUFFER_SIZE
bytes, so its memory is bounded however much a stream expands. Streams may be concatenated, with
zeros between and after them, as the command-line tools accept. All errors are BrokenArchive without
a member, since only the caller knows what is being decompressed.

`streams.py` and the libraries that it uses are imported with the first compressed stream.
"""

from collections.abc import Iterator
from typing import Protocol, Self

import msgspec

from engine.compression.formats import SNIFFED as SNIFFED
from engine.compression.formats import sniff as sniff
from engine.errors import BrokenArchive, counted


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


class Resumable(Decompressor, Protocol):
    """A decompressor that can be forked, to continue from an earlier position of the stream.

    A fork of a gzip decompressor starts where the original stands. The decoders of the other
    formats cannot be copied: their forks start at the beginning of the current stream among
    concatenated ones.
    """

    @property
    def place(self) -> StreamPosition:
        """The current position. Like `resumable_from` and `fork`, it is invalid while a piece is
        being fed.
        """

    @property
    def resumable_from(self) -> StreamPosition:
        """The position at which a `fork` starts: `place` or an earlier one."""

    def fork(self) -> Self:
        """Return an independent decompressor whose `place` is `resumable_from`."""


def new(name: str) -> Decompressor:
    """Return a decompressor of the format `name`, as `sniff` returns it."""
    if name == "none":
        return _Plain()
    from engine.compression import decoders, streams

    return streams.Streams(name, decoders.FORMATS[name])


def resumable(name: str) -> Resumable:
    """Return a resumable decompressor of a format that `sniff` returns, except "none"."""
    from engine.compression import decoders, streams

    return streams.Streams(name, decoders.RESUMABLE_FORMATS[name])


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

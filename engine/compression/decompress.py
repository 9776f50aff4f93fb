"""Streaming decompression of archives and of the layers in them.

A decompressor is fed with pieces of its input and yields output in pieces of at most BUFFER_SIZE
bytes, so its memory is bounded however much a stream expands. Streams may be concatenated, with
zeros between and after them, as the command-line tools accept. All errors are BrokenArchive without
a member, since only the caller knows what is being decompressed.

`streams.py` and the libraries that it uses are imported with the first compressed stream.
"""

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Protocol

import msgspec

from engine.compression.formats import SNIFFED as SNIFFED
from engine.compression.formats import sniff as sniff
from engine.errors import BrokenArchive, counted

if TYPE_CHECKING:
    from engine.compression.decoders import Decoder


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
    from engine.compression import streams

    return streams.Streams(name, decoder, start, current)


def decoder_of(name: str) -> "Decoder":
    """Return a decoder of one stream of the format `name`, which is not "none"."""
    from engine.compression import decoders

    return decoders.FORMATS[name].start()


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

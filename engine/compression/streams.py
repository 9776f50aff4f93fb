"""Decompression of concatenated streams of one format, in pieces of bounded size."""

from collections.abc import Callable, Iterator
from typing import Final

from engine.compression.decoders import ERRORS, FORMATS, Decoder
from engine.compression.decompress import StreamPosition
from engine.compression.formats import MAGICS, sniff
from engine.errors import BrokenArchive
from engine.limits import BUFFER_SIZE

SLICE: Final = 256 << 10
"""The most bytes that a decoder is given at a time; `bytes` of at most this size are not copied."""
_MAX_HEADER = 1 << 20
_QUOTED = 16
_TAR_MAGIC = slice(257, 262)
_ENOUGH = 512
"""Bytes after a stream that suffice to recognise what follows: the size of a tar header."""


class Streams:
    """A decompressor of concatenated streams of one format."""

    def __init__(
        self,
        name: str,
        decoder: Callable[[StreamPosition], Decoder],
        start: StreamPosition,
        current: Decoder | None,
    ) -> None:
        """Decode each stream by `decoder`, which is called with its position.

        The first byte that is fed is at `start`; `current` decodes it, if it does not begin a
        stream.
        """
        self.name = name
        self._has_header = FORMATS[name].has_header
        self._new_decoder = decoder
        self._magic = MAGICS[name]
        self._head = b""
        self._decoder = current
        self._complete = False
        self._fed = start.compressed
        self._made = start.uncompressed

    def feed(self, data: bytes | memoryview) -> Iterator[bytes | memoryview]:
        # A decoder copies the input after the end of its stream: slices keep that cheap where an
        # archive consists of many small streams.
        view = memoryview(data)
        for position in range(0, len(view), SLICE):
            rest = data if len(view) <= SLICE else view[position : position + SLICE]
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
        if len(head) < self._magic.size:
            return b""
        if self._is_foreign(head):
            if len(head) < _ENOUGH:
                return b""
            raise self._garbage(head)
        if not self._has_header(head):
            if len(head) > _MAX_HEADER:
                raise BrokenArchive("", f"is a damaged {self.name} stream: its header has no end")
            return b""
        self._head = b""
        self._decoder = self._new_decoder(StreamPosition(self._fed - len(head), self._made))
        return head

    def _is_foreign(self, head: bytes) -> bool:
        """Return whether these bytes begin no stream of this format."""
        return len(head) >= self._magic.size and not self._magic.pattern.match(head)

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

    def _expand(self, decoder: Decoder, data: bytes | memoryview) -> Iterator[bytes | memoryview]:
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

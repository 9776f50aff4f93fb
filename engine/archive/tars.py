"""The tar archives of one stream, in succession, as `tar -i` reads them.

Any number of zeros before, between and after them is skipped. Other data that is no tar archive is
refused with an error that names its type. The type is determined from exactly the first
`file_types.SIZE` bytes, so the message does not depend on how the stream is divided into pieces.
"""

from collections.abc import Iterator

import msgspec

from engine.archive import file_types
from engine.errors import BrokenArchive, LimitExceeded
from engine.limits import Limits
from engine.tar import header_decoder as headers
from engine.tar.header_decoder import BLOCK
from engine.tar.reader import Event, TarReader

_STEPS = (BLOCK, 2 * BLOCK, file_types.SIZE)
"""The amounts of undecided bytes, in ascending order, at which they are examined."""
_MOST = 100


class NextArchive(msgspec.Struct, frozen=True):
    """The event that another archive begins after the end of the one before."""


class Tars:
    """A reader of the archives of one stream; the limits apply to all of them together."""

    def __init__(self, limits: Limits) -> None:
        self._tar = TarReader(limits)
        self._head: bytearray | None = bytearray()
        """The first undecided bytes; None within an archive."""
        self._zeros = 0
        self._is_first = True
        self._archives = 1
        self._start = bytearray()
        """The first bytes of the first archive."""

    @property
    def ended(self) -> bool:
        """Whether an archive has ended and only zeros have followed."""
        return self._head is not None and not self._head and not self._is_first

    @property
    def members(self) -> int:
        """The number of members that have begun, in all archives."""
        return self._tar.members

    def feed(self, data: memoryview) -> Iterator[Event | NextArchive]:
        """Yield the events of the next bytes; the iterator must be exhausted before the next call.

        Raise BrokenArchive or LimitExceeded.
        """
        while data:
            if self._head is None:
                yield from self._read(data)
                data = self._tar.rest
                if self._tar.ended:
                    self._head = bytearray()
                continue
            data = self._look(self._head, data)
            if (first := self._first_blocks(bytes(self._head))) is not None:
                if not self._is_first:
                    self._count_another()
                    self._tar.restart()
                    yield NextArchive()
                self._head, self._is_first, self._zeros = None, False, 0
                yield from self._read(memoryview(first))
            elif len(self._head) >= file_types.SIZE:
                raise self._unknown(bytes(self._head))

    def finish(self) -> None:
        """Raise BrokenArchive if the stream may not end here; more bytes may be fed afterwards."""
        if self._head is None:
            self._tar.finish()
        elif self._head:
            raise self._unknown(bytes(self._head))

    def _read(self, data: memoryview) -> Iterator[Event]:
        self._start += data[: file_types.SIZE - len(self._start)]
        try:
            yield from self._tar.feed(data)
        except BrokenArchive as error:
            if file_types.has_windows_lines(bytes(self._start[: self._tar.header_end])):
                reason = f"{error.reason}; its line ends are CR LF: {file_types.AS_TEXT}"
                raise BrokenArchive(error.member, reason) from error
            raise

    def _count_another(self) -> None:
        """Count an archive: each is resolved on its own, so the number bounds the time for a
        stream.
        """
        self._archives += 1
        if self._archives > _MOST:
            what = "archives behind one another"
            raise LimitExceeded("archive", what, _MOST, self._archives)

    def _look(self, head: bytearray, data: memoryview) -> memoryview:
        """Append to the undecided bytes up to the next step; return the remaining bytes."""
        if not head:
            rest = _without_zeros(data)
            self._zeros += len(data) - len(rest)
            if rest:  # a name may begin with zeros, so a whole block is taken
                head += bytes(self._zeros % BLOCK)
                self._zeros -= len(head)
            data = rest
        wanted = next(size for size in _STEPS if len(head) < size) - len(head)
        head += data[:wanted]
        return data[wanted:]

    def _first_blocks(self, head: bytes) -> bytes | None:
        """Return the first bytes of an archive, aligned to preceding blocks or not; else None."""
        if file_types.is_tar(head):
            return head
        stripped = head.lstrip(b"\0")
        return stripped if len(head) <= 2 * BLOCK and file_types.is_tar(stripped) else None

    def _unknown(self, head: bytes) -> BrokenArchive:
        if not self._is_first:
            head = head.lstrip(b"\0")
            found = file_types.identify(head)
            noun = found.noun if found else f"something that begins with {ascii(head[:16])[1:]}"
            return BrokenArchive("", f"has {noun} behind its end: take it out of the file")
        found = file_types.identify(bytes(min(self._zeros, file_types.SIZE)) + head)
        if found is not None:
            return BrokenArchive("", f"is not a tar archive but {found}")
        if len(head) < BLOCK:
            return BrokenArchive("", "is truncated: it ends within a header")
        expected, said = headers.checksums(head[:BLOCK])
        shown = f"{head[148:156]!r}" if said is None else said
        return BrokenArchive(
            "",
            f"is not a tar archive: expected the checksum {expected}, found {shown}:"
            " load what docker save or skopeo copy wrote",
        )


def _without_zeros(data: memoryview) -> memoryview:
    if data[-1] == 0 and bytes(data) == bytes(len(data)):
        return data[len(data) :]
    return data[len(data) - len(bytes(data).lstrip(b"\0")) :]

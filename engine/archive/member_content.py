"""The states of the content of a file that is loaded: in memory, in an ingest, or in the content
store.
"""

import msgspec

from engine.closing import Closing
from engine.content.writer import Writer
from engine.layers.diff_ids import Uncompressed
from engine.layers.follower import FollowedLayer, Outcome
from engine.spec import digest as digests
from engine.spec.digest import Digest


class Buffered(msgspec.Struct, frozen=True, gc=False):
    """A member kept in memory; its digest is `raw` bytes to save memory, as there may be many
    members.
    """

    name: str
    raw: bytes
    data: bytes

    @property
    def digest(self) -> Digest:
        return digests.from_raw(self.raw)

    @property
    def size(self) -> int:
        return len(self.data)

    def pread(self, size: int, offset: int) -> bytes:
        return self.data[offset : offset + size]


class Spilled(msgspec.Struct, frozen=True, gc=False):
    """A small member in a file that it shares with others, at the offset `start`."""

    name: str
    raw: bytes
    start: int
    size: int
    file: Writer

    @property
    def digest(self) -> Digest:
        return digests.from_raw(self.raw)

    def pread(self, size: int, offset: int) -> bytes:
        return self.file.pread(max(0, min(size, self.size - offset)), self.start + offset)


class Ingested(msgspec.Struct, frozen=True):
    """A member whose bytes are in an ingest, with what is learnt of it, or is known already."""

    name: str
    digest: Digest
    size: int
    writer: Writer
    layer: FollowedLayer | Outcome

    def outcome(self) -> Outcome:
        """Return what is known of a layer; wait for it, and raise LimitExceeded or OSError."""
        return self.layer.outcome()

    @property
    def uncompressed(self) -> Uncompressed | None:
        """The diff ID and the size of a layer, as far as `outcome` knows them."""
        return self.outcome().uncompressed

    def settle(self) -> None:
        """Learn no more, so that the ingest can end."""
        self.layer.stop()

    def pread(self, size: int, offset: int) -> bytes:
        return self.writer.pread(size, offset)


class Stored(msgspec.Struct, frozen=True):
    """A member that the content store already holds."""

    name: str
    digest: Digest
    size: int
    diff_id: Digest | None


class Damaged(msgspec.Struct, frozen=True):
    """A member whose name is the digest of a stored blob (`expected`) but whose bytes differ."""

    name: str
    digest: Digest
    size: int
    expected: Digest


Small = Buffered | Spilled
Content = Small | Ingested | Stored


def drop(content: Content) -> None:
    """Discard the ingest of the content, if it has one."""
    if isinstance(content, Ingested):
        content.settle()
        content.writer.abort()


class ContentReader(Closing):
    """A `ReaderAt` of a member."""

    def __init__(self, content: Small | Ingested) -> None:
        self._content = content
        self.size = content.size

    def pread(self, size: int, offset: int) -> bytes:
        return self._content.pread(size, offset)

    def fileno(self) -> None:
        """Return None: a member of an archive has no file of its own."""

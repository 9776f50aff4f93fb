"""The members of a tar archive as they arrive.

Small members are kept in memory and large ones in ingests; each is hashed as it arrives. A blob
that the store already holds under the digest in the member's name is hashed and not written again.
A `MemberIndex` is for one thread at a time.
"""

from engine.archive import pooled_layers
from engine.archive.content_pool import BUFFERED_FILE, ContentPool
from engine.archive.member_content import Damaged
from engine.archive.member_sinks import BufferSink, CheckSink, IngestSink, Sink
from engine.archive.members import Link, MemberNames, Members, Special
from engine.layouts.entry import blob_digest
from engine.tar.member import Member, clean_name, resolve_link


class MemberIndex(Members):
    """The members of one archive so far."""

    def __init__(self, pool: ContentPool) -> None:
        super().__init__(MemberNames(), pool)
        self._sink: Sink | None = None

    @property
    def table_bytes(self) -> int:
        """The approximate memory in bytes of the tables of members, without the data of files."""
        return self._names.table_bytes + self.pool.table_bytes

    def start(self, member: Member) -> None:
        """Begin a member; the data of a file follows."""
        name = clean_name(member.name)
        if name is None or member.kind == "dir":
            return
        replaced = self._names.pop(name)
        if isinstance(replaced, bytes):
            self.pool.remove(replaced)
        if member.kind == "file":
            self._sink = self._open_sink(name, member.size)
        elif member.kind == "symlink":
            self._names.put(name, Link(member.kind, resolve_link(name, member.linkname)))
        elif member.kind == "hardlink":
            self._names.put(name, Link(member.kind, clean_name(member.linkname)))
        else:
            self._names.put(name, Special(member.kind))

    def write(self, data: memoryview) -> None:
        """Take data of the current member."""
        if self._sink is not None:
            self._sink.write(data)

    def end(self) -> None:
        """Complete the current member."""
        if self._sink is not None:
            sink, self._sink = self._sink, None
            content = sink.close()
            named = content if isinstance(content, Damaged) else self.pool.add(content)
            self._names.put(content.name, named)

    def forget_names(self) -> None:
        """Begin the next archive: the members so far remain available by digest only."""
        self._names.clear()

    def discard(self) -> None:
        """Discard all contents that were not published."""
        if self._sink is not None:
            self._sink.abandon()
            self._sink = None
        self._names.clear()
        self.pool.discard()

    def _open_sink(self, name: str, size: int) -> Sink:
        expected, pool = blob_digest(name), self.pool
        if size <= BUFFERED_FILE:
            return BufferSink(name, expected)
        if expected is not None and pool.store.sizes([expected]).get(expected) == size:
            pool.hold(expected)
            if pool.store.exists(expected):
                return CheckSink(
                    name, expected, size, pooled_layers.labelled_diff_id(pool, expected)
                )
        algorithm = expected.algorithm if expected else "sha256"
        writer = pool.store.unnamed_writer(size, algorithm=algorithm)
        return IngestSink(name, writer, pool.expansion)

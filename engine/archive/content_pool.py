"""The contents of the files that a load has received, by digest, in front of the content store.

Nothing is visible in the content store before `publish`, and `discard` leaves no trace. A pool is
for one thread at a time.
"""

import errno
from collections.abc import Callable, Iterable, Mapping, Sequence

from engine.archive.member_content import (
    Buffered,
    Content,
    ContentReader,
    Ingested,
    Small,
    Spilled,
    Stored,
    drop,
)
from engine.content.protocols import Committed, Info, ReaderAt
from engine.content.writer import Writer
from engine.errors import MissingMember
from engine.layers.diff_ids import (
    Uncompressed,
    may_be_layer,
)
from engine.layers.follower import Outcome
from engine.limits import Expansion, Limits
from engine.spec import digest as digests
from engine.spec.digest import Digest
from engine.stores.protocols import ContentStore

BUFFERED_FILE = 64 << 10
"""The size in bytes up to which a file is kept in memory."""
_BUFFERED_TOTAL = 8 << 20
_LISTED = 20
_BATCH = 100
"""The number of small contents that are published at a time if files are scarce."""
_CONTENT = 250
_INGEST = 2000
"""The approximate memory in bytes of an entry of the table, without the data."""


class ContentPool:
    """Contents by digest; those that have been received come before those of the store."""

    def __init__(self, store: ContentStore, hold: Callable[[Digest], None], limits: Limits) -> None:
        """`hold` leases a blob of the store."""
        self.store = store
        self.hold = hold
        self.limits = limits
        self.expansion = Expansion(limits.max_expanded_bytes)
        """Counts uncompressed bytes of archives and layers."""
        self._by_raw: dict[bytes, Content] = {}
        self._further_uses: dict[bytes, int] = {}
        """The number of uses of a content beyond the first."""
        self.measured: dict[Digest, Uncompressed] = {}
        """The layers that have been measured since they arrived."""
        self._made: dict[str, bytes] = {}
        self._buffered = 0
        self._spilled: Writer | None = None
        self.layers = 0
        """The number of contents so far that look like layers."""
        self.table_bytes = 0
        """The approximate memory in bytes of the table of contents, without their data."""

    def add(self, content: Content) -> bytes:
        """Add a use of a content, and drop its bytes if the pool has them; return its raw digest,
        which takes less memory than text.
        """
        raw = content.raw if isinstance(content, Small) else content.digest.raw
        kept = self._by_raw.get(raw)
        if kept is not None:
            self._further_uses[raw] = self._further_uses.get(raw, 0) + 1
            if isinstance(content, Stored) and not isinstance(kept, Stored):
                self._replace(raw, content)
            elif content is not kept:
                drop(content)
            return raw
        self._by_raw[raw] = content
        self.table_bytes += _size_in_table(content)
        if isinstance(content, Buffered):
            self._buffered += content.size
            if self._buffered > _BUFFERED_TOTAL:
                self._spill(content)
        if not isinstance(content, Stored):
            with self.open(content.digest) as reader:
                self.layers += may_be_layer(reader)
        return raw

    def add_document(self, name: str, data: bytes) -> Digest:
        """Add a small document; return its digest."""
        document = Buffered(name, digests.of_bytes(data).raw, data)
        self.add(document)
        return document.digest

    def remove(self, raw: bytes) -> None:
        """Remove a use of the content with a raw digest; drop it with its last use."""
        if further := self._further_uses.pop(raw, 0):
            if further > 1:
                self._further_uses[raw] = further - 1
            return
        content = self._by_raw.pop(raw, None)
        if content is None:
            return
        self.table_bytes -= _size_in_table(content)
        if isinstance(content, Buffered):
            self._buffered -= content.size
        drop(content)

    def withdraw(self, raw: bytes) -> bool:
        """Take a content with one use out of the pool and keep its bytes; return whether that was
        possible.
        """
        if raw in self._further_uses or (content := self._by_raw.pop(raw, None)) is None:
            return False
        self.table_bytes -= _size_in_table(content)
        return True

    def get(self, digest: Digest) -> Content | None:
        """Return the content with that digest, or None if it has not been received."""
        return self._by_raw.get(digest.raw)

    def with_raw(self, raw: bytes) -> Content | None:
        """Return the content with that raw digest, or None if it is no longer there."""
        return self._by_raw.get(raw)

    def open(self, digest: str) -> ReaderAt:
        """Open a content or a blob of the store; raise NotFound if there is neither."""
        content = self.get(Digest(digest))
        if isinstance(content, Small | Ingested):
            return ContentReader(content)
        return self.store.open(digest)

    def sizes(self, wanted: Iterable[str]) -> Mapping[str, int]:
        """Return the sizes in bytes of those blobs that have been received or are stored."""
        wanted = tuple(wanted)
        found = ((digest, self.get(Digest(digest))) for digest in wanted)
        known = {d: c.size for d, c in found if isinstance(c, Small | Ingested)}
        others = [digest for digest in wanted if digest not in known]
        return {**self.store.sizes(others), **known} if others else known

    def called(self, digest: str) -> str:
        """Return the name of the file that has a content, else the digest, for use in messages."""
        content = self.get(Digest(digest))
        return content.name if content else digest

    # -- layers ------------------------------------------------------------------------------------

    def uncompressed(self, digest: Digest) -> Uncompressed | None:
        """Return the diff ID and the size of a layer, or None if they were not determined on
        arrival.
        """
        content = self.get(digest)
        if isinstance(content, Ingested):
            return content.uncompressed
        return self.measured.get(digest)

    def make(self, source: str, write: Callable[[ReaderAt, Writer], Uncompressed]) -> Content:
        """Return the content that `write` creates from a blob; it is created once."""
        made = self.with_raw(self._made.get(source, b""))
        if made is None:
            writer = self.store.unnamed_writer()
            try:
                with self.open(source) as reader:
                    plain = write(reader, writer)
                size = writer.status().offset
            except BaseException:
                writer.abort()
                raise
            content = Ingested(self.called(source), writer.digest(), size, writer, Outcome(plain))
            self._made[source] = self.add(content)
            made = self._by_raw[self._made[source]]
        return made

    # -- publication -------------------------------------------------------------------------------

    def prepare(self, wanted: Iterable[str]) -> Mapping[str, Writer]:
        """Return ingests of those blobs that the store lacks, and make their bytes durable, so that
        `publish` is short.

        Each is an open file: if the process may not have as many, some small blobs are left to
        `publish`.
        """
        writers: dict[str, Writer] = {}
        small: dict[str, Writer] = {}
        try:
            for digest in wanted:
                content = self.get(Digest(digest))
                if isinstance(content, Ingested):
                    content.settle()
                    writers[digest] = content.writer
            self._write_small(wanted, small)
            self.store.prepare((*writers.values(), *small.values()))
        except BaseException:
            for writer in small.values():
                writer.abort()
            raise
        return writers | small

    def publish(
        self, wanted: Mapping[str, Mapping[str, str]], prepared: Mapping[str, Writer]
    ) -> list[Info]:
        """Publish prepared blobs with these labels; return the ones that are new.

        The caller holds a transaction, which undoes this if it fails. Raise MissingMember if a blob
        that only the store held has been collected in the meantime.
        """
        committed = self.store.publish([(w, wanted[digest]) for digest, w in prepared.items()])
        left = (digest for digest in wanted if digest not in prepared)
        small = [digest for digest in left if isinstance(self.get(Digest(digest)), Small)]
        for start in range(0, len(small), _BATCH):
            committed += self._publish_small(small[start : start + _BATCH], wanted)
        held = self.store.sizes(wanted)
        for digest in wanted:
            if digest not in held:
                raise missing_blob(digest, "an image of it")
        for digest, labels in wanted.items():
            if labels and digest not in prepared and self._is_unlabelled(digest):
                self.store.update(digest, labels)
        return [each.info for each in committed if each.added]

    def published(self, digests_of_blobs: Iterable[str]) -> None:
        """Keep of published contents only that the store holds them."""
        for digest in map(Digest, digests_of_blobs):
            content = self.get(digest)
            if content is not None and not isinstance(content, Stored):
                uncompressed = self.uncompressed(digest)
                diff_id = uncompressed.diff_id if uncompressed else None
                stored = Stored(content.name, digest, content.size, diff_id)
                self._replace(digest.raw, stored)

    def give_up(self, prepared: Mapping[str, Writer]) -> None:
        """Drop ingests of a publication that has failed, with the contents that they held."""
        for digest, writer in prepared.items():
            writer.abort()
            if isinstance(self.get(Digest(digest)), Ingested):
                del self._by_raw[Digest(digest).raw]

    def discard(self) -> None:
        """Discard all contents that were not published."""
        for content in self._by_raw.values():
            drop(content)
        if self._spilled is not None:
            self._spilled.abort()
            self._spilled = None
        self._by_raw.clear()
        self._further_uses.clear()
        self._buffered = self.table_bytes = 0

    # -- helpers -----------------------------------------------------------------------------------

    def _write_small(self, wanted: Iterable[str], writers: dict[str, Writer]) -> None:
        """Add to `writers` ingests of small contents, up to the first for which no file can be
        opened; leave room for the files of a batch then.
        """
        for digest in wanted:
            content = self.get(Digest(digest))
            if isinstance(content, Small):
                try:
                    writers[digest] = self._written(content)
                except OSError as error:
                    if error.errno != errno.EMFILE:
                        raise
                    for last in list(writers)[-_BATCH:]:
                        writers.pop(last).abort()
                    return

    def _publish_small(
        self, batch: Iterable[str], wanted: Mapping[str, Mapping[str, str]]
    ) -> list[Committed]:
        """Publish small contents that were not prepared."""
        writers: list[tuple[Writer, Mapping[str, str]]] = []
        try:
            for digest in batch:
                content = self.get(Digest(digest))
                if isinstance(content, Small):
                    writers.append((self._written(content), wanted[digest]))
            return self.store.publish(writers)
        finally:
            for writer, _ in writers:
                writer.abort()

    def _written(self, content: Small) -> Writer:
        """Return an ingest with the bytes of a small content."""
        writer = self.store.unnamed_writer(content.size, content.digest)
        try:
            writer.write(content.pread(content.size, 0))
        except BaseException:
            writer.abort()
            raise
        return writer

    def _replace(self, raw: bytes, stored: Stored) -> None:
        """Keep of a content only that the store holds it."""
        before = self._by_raw[raw]
        self._by_raw[raw] = stored
        self.table_bytes += _size_in_table(stored) - _size_in_table(before)
        if isinstance(before, Buffered):
            self._buffered -= before.size
        drop(before)

    def _is_unlabelled(self, digest: str) -> bool:
        """Return whether the store may lack labels of a blob that this load has learnt of."""
        is_measured = Digest(digest) in self.measured
        return is_measured or not self.store.info(digest).labels

    def _spill(self, content: Buffered) -> None:
        """Move a small file out of memory to a file shared with others."""
        if self._spilled is None:
            self._spilled = self.store.unnamed_writer()
        start = self._spilled.status().offset
        self._spilled.write(content.data)
        self._by_raw[content.raw] = Spilled(
            content.name, content.raw, start, content.size, self._spilled
        )
        self._buffered -= content.size


def _size_in_table(content: Content) -> int:
    return _INGEST if isinstance(content, Ingested) else _CONTENT


def missing_blob(digest: str, subject: str, others: Sequence[str] = ()) -> MissingMember:
    """Return the error for a blob that is neither in an archive nor in the store.

    `others` are further absent blobs that `subject` needs.
    """
    reason = f"is missing from the archive and from the store, {subject} needs it"
    if others:
        more = len(others) - _LISTED
        listed = ", ".join(others[:_LISTED]) + (f" and {more} more" if more > 0 else "")
        reason += f"; also missing: {listed}"
    return MissingMember(blob_path(digest), reason, tuple(map(blob_path, others)))


def blob_path(digest: str) -> str:
    """Return the path of a blob in an OCI layout."""
    return f"blobs/{digest.replace(':', '/', 1)}"

"""The members of an archive, by name and by digest.

Small members are kept in memory and large ones in ingests; each is hashed as it arrives. A blob
that the store already holds under the digest in the member's name is hashed and not written again.
Nothing is visible in the content store before `publish`, and `discard` leaves no trace. A
`MemberIndex` is for one thread at a time.
"""

import sys
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import closing, suppress

from engine.archive.member_content import (
    Buffered,
    Content,
    ContentReader,
    Contents,
    Damaged,
    Ingested,
    Small,
    Spilled,
    Stored,
    drop,
)
from engine.archive.member_sinks import BufferSink, CheckSink, IngestSink, Sink
from engine.compression.options import Compression
from engine.content.protocols import Info, ReaderAt, Writer
from engine.errors import (
    BrokenArchive,
    DigestMismatch,
    EngineError,
    LimitExceeded,
    MissingMember,
)
from engine.layers.diff_ids import (
    UNCOMPRESSED_LABEL,
    Uncompressed,
    compression_of,
    foreign_compression_of,
    may_be_layer,
    measure,
    pieces_of,
)
from engine.layers.learning import learn
from engine.layers.table_codec import dump
from engine.layouts.entry import blob_digest
from engine.limits import Expansion
from engine.progress import ignore
from engine.spec import digest as digests
from engine.spec.digest import Digest
from engine.spec.go_json import JSON_LIMIT
from engine.spec.oci import Descriptor
from engine.stores.protocols import ContentStore
from engine.tar.member import Member, clean_name, resolve_link

_BUFFERED_MEMBER = 64 << 10
_BUFFERED_TOTAL = 8 << 20
_MAX_LINKS = 40
_LISTED_ABSENT = 20
_NAME = 76
_LINK = 104
_CONTENT = 250
_INGEST = 2000
"""The approximate memory in bytes of an entry of the table; a link and a content add to it."""
_CHUNK = 1 << 20


class MemberIndex:
    """The members of one archive, by name and by digest."""

    def __init__(
        self, store: ContentStore, hold: Callable[[Digest], None], expansion: Expansion
    ) -> None:
        """`hold` leases a blob of the store; `expansion` counts uncompressed bytes of layers."""
        self._expansion = expansion
        self._store = store
        self._hold = hold
        self._files: dict[str, Content | Damaged] = {}
        self._links: dict[str, tuple[str, str | None]] = {}
        self._specials: dict[str, str] = {}
        self._by_digest = Contents()
        self._other_names: dict[Digest, int] = {}
        """The number of further names of a content that has several."""
        self._measured: dict[Digest, Uncompressed] = {}
        self._made: dict[str, Content] = {}
        self._buffered = 0
        self._spilled: Writer | None = None
        self._sink: Sink | None = None
        self.layers = 0
        """The number of files that look like layers so far, each content counted once."""
        self.table_bytes = 0
        """The approximate memory in bytes of the table of members, without the data of files."""

    def start(self, member: Member) -> None:
        """Begin a member; the data of a file follows."""
        name = clean_name(member.name)
        if name is None or member.kind == "dir":
            return
        self._remove(name)
        if member.kind == "file":
            self._sink = self._open_sink(name, member.size)
        elif member.kind == "symlink":
            self._add_link(name, member.kind, resolve_link(name, member.linkname))
        elif member.kind == "hardlink":
            self._add_link(name, member.kind, clean_name(member.linkname))
        else:
            self._specials[name] = member.kind
            self.table_bytes += _NAME + sys.getsizeof(name)

    def write(self, data: memoryview) -> None:
        """Take data of the current member."""
        if self._sink is not None:
            self._sink.write(data)

    def end(self) -> None:
        """Complete the current member."""
        if self._sink is None:
            return
        sink, self._sink = self._sink, None
        content = sink.close()
        if isinstance(content, Damaged):
            self._files[content.name] = content
            self.table_bytes += _NAME + sys.getsizeof(content.name) + _CONTENT
            return
        kept = self._by_digest.add(content)
        self._files[content.name] = kept
        self.table_bytes += _NAME + sys.getsizeof(content.name)
        if kept is not content:
            self._other_names[kept.digest] = self._other_names.get(kept.digest, 0) + 1
            drop(content)
            return
        self.table_bytes += _size_in_table(content)
        if isinstance(content, Buffered):
            self._buffered += content.size
            if self._buffered > _BUFFERED_TOTAL:
                self._spill(content)
        with self.open(content.digest) as reader:
            self.layers += may_be_layer(reader)

    def add(self, name: str, data: bytes) -> Digest:
        """Add a document that was created from the archive; return its digest."""
        return self._by_digest.add(Buffered(name, digests.of_bytes(data).raw, data)).digest

    def has(self, name: str) -> bool:
        """Return whether there is a member of that name other than a directory."""
        return name in self._files or name in self._links or name in self._specials

    @property
    def names(self) -> Collection[str]:
        """The names of all members but directories, relative to the root of the archive."""
        return self._files.keys() | self._links.keys() | self._specials.keys()

    def forget_names(self) -> None:
        """Begin the next archive: the members so far remain available by digest only."""
        self._files.clear()
        self._links.clear()
        self._specials.clear()

    def find(self, path: str) -> Content:
        """Return the file at a path of the archive, following links.

        Raise MissingMember if it is absent, BrokenArchive if the path leads to another kind of
        member or out of the archive, and DigestMismatch if its content does not match its name.
        """
        name = clean_name(path)
        if name is None:
            raise BrokenArchive(path, "leaves the archive")
        for _ in range(_MAX_LINKS):
            if name in self._files:
                found = self._files[name]
                if isinstance(found, Damaged):
                    raise DigestMismatch(name, found.expected, found.digest)
                return found
            if name in self._specials:
                raise BrokenArchive(path, f"expected a file, found a {self._specials[name]}")
            if name not in self._links:
                raise MissingMember(path)
            kind, target = self._links[name]
            if target is None:
                raise BrokenArchive(path, f"is a {kind} that leaves the archive")
            name = target
        raise BrokenArchive(path, f"is a link that needs more than {_MAX_LINKS} steps")

    def document(self, path: str) -> bytes:
        """Return the content of a small file.

        Raise LimitExceeded if it is larger than `JSON_LIMIT`, and the errors of `find`.
        """
        content = self.find(path)
        if content.size > JSON_LIMIT:
            raise LimitExceeded(path, "bytes of JSON", JSON_LIMIT, content.size)
        with self.open(content.digest) as reader:
            return reader.pread(content.size, 0)

    # -- as a content provider: the archive first, then the store --------------------------------

    def open(self, digest: str) -> ReaderAt:
        """Open a blob of the archive or of the store; raise NotFound if neither holds it."""
        content = self._by_digest.get(Digest(digest))
        if isinstance(content, Small | Ingested):
            return ContentReader(content)
        return self._store.open(digest)

    def sizes(self, wanted: Iterable[str]) -> Mapping[str, int]:
        """Return the sizes in bytes of those blobs that the archive or the store holds.

        Raise DigestMismatch for a blob whose content in the archive does not match its name.
        """
        found = {d: self._by_digest.get(Digest(d)) for d in wanted}
        known = {d: content.size for d, content in found.items() if content is not None}
        others = [d for d in wanted if d not in known]
        for digest in others:
            if (damaged := self._files.get(_blob_path(digest))) is not None:
                raise DigestMismatch(_blob_path(digest), digest, damaged.digest, damaged.size)
        return {**self._store.sizes(others), **known}

    def stored_as(self, digest: str) -> str:
        """Return the name of the member that holds a blob, else the digest, for use in messages."""
        content = self._by_digest.get(Digest(digest))
        return content.name if content else digest

    def absence(self, digest: str, subject: str, others: Sequence[str] = ()) -> EngineError:
        """Return the error for an absent blob; `others` are further absent blobs that it lists."""
        path = _blob_path(digest)
        if path in self._files:
            return DigestMismatch(path, digest, self._files[path].digest)
        reason = f"is missing from the archive and from the store, {subject} needs it"
        if others:
            more = len(others) - _LISTED_ABSENT
            listed = ", ".join(others[:_LISTED_ABSENT]) + (f" and {more} more" if more > 0 else "")
            reason += f"; also missing: {listed}"
        return MissingMember(path, reason)

    def uncompressed(self, digest: Digest) -> Uncompressed | None:
        """Return the diff ID and the size of a layer, or None if they were not determined on
        arrival.
        """
        content = self._by_digest.get(digest)
        if isinstance(content, Ingested):
            return content.uncompressed
        return self._measured.get(digest)

    def diff_id(self, digest: Digest, algorithm: str = "sha256") -> Digest:
        """Return the digest of a layer's uncompressed bytes; raise BrokenArchive if damaged."""
        content = self._by_digest.get(digest)
        match content:
            case Ingested(uncompressed=found):
                known = found.diff_id if found else None
            case Stored():
                known = content.diff_id
            case Buffered() | Spilled():
                measured = self._measured.get(digest)
                known = measured.diff_id if measured else None
            case None:
                known = self._labelled(digest)
        if known is not None and known.algorithm == algorithm:
            return known
        with self.open(digest) as reader:
            if digest.algorithm == algorithm and compression_of(reader) == "none":
                return digest
            measured = measure(reader, self.stored_as(digest), algorithm, self._expansion.add)
        self._measured[digest] = measured
        return measured.diff_id

    def compressed(self, layer: Descriptor, compression: Compression) -> Descriptor:
        """Return the compressed form of a plain layer, from the store if it holds one."""
        kind = compression.kind
        for info in self._store.labelled(UNCOMPRESSED_LABEL, layer.digest):
            self._hold(info.digest)
            if self._store.exists(info.digest):
                with self._store.open(info.digest) as reader:
                    if compression_of(reader) == kind:
                        return Descriptor(compression.media_type, info.digest, info.size)
        content = self._compressed(layer, compression)
        return Descriptor(compression.media_type, content.digest, content.size)

    def _compressed(self, layer: Descriptor, compression: Compression) -> Content:
        def write(reader: ReaderAt, writer: Writer) -> Uncompressed:
            with closing(compression.start(writer.write)) as compressor:
                for chunk in _chunks(reader):
                    compressor.write(chunk)
                compressor.finish()
            return Uncompressed(Digest(layer.digest), layer.size)

        return self._make(layer.digest, write)

    def plain(self, layer: Content) -> Content:
        """Return the layer in a form that an image can hold.

        xz, bzip2, lzma and lz4, for which OCI has no media type, are decompressed. Raise
        BrokenArchive or LimitExceeded.
        """

        def write(reader: ReaderAt, writer: Writer) -> Uncompressed:
            size = 0
            try:
                for piece in pieces_of(reader, kind):
                    self._expansion.add(len(piece))
                    writer.write(piece)
                    size += len(piece)
            except BrokenArchive as error:
                raise BrokenArchive(layer.name, error.reason) from error
            return Uncompressed(writer.digest(), size)

        with self.open(layer.digest) as reader:
            kind = foreign_compression_of(reader)
        return layer if kind == "none" else self._make(layer.digest, write)

    def _make(self, source: str, write: Callable[[ReaderAt, Writer], Uncompressed]) -> Content:
        """Return the content that `write` creates from a blob; it is created once."""
        made = self._made.get(source)
        if made is None:
            writer = self._store.unnamed_writer()
            try:
                with self.open(source) as reader:
                    plain = write(reader, writer)
                size = writer.status().offset
            except BaseException:
                writer.abort()
                raise
            made = Ingested(self.stored_as(source), writer.digest(), size, writer, plain)
            kept = self._by_digest.add(made)
            if kept is not made:
                drop(made)
            made = self._made[source] = kept
        return made

    # -- publication -------------------------------------------------------------------------------

    def prepare(self, wanted: Iterable[str]) -> None:
        """Make the bytes of blobs durable, so that `publish` is short."""
        for digest in wanted:
            content = self._by_digest.get(Digest(digest))
            if isinstance(content, Small):
                self._by_digest.replace(self._write_out(content))
        self._store.prepare(writer for _, writer in self._writers(wanted))

    def tables(self, layers: Iterable[str]) -> Iterator[tuple[str, bytes]]:
        """Yield the digests and the tables of those layers that the store does not hold yet.

        One that cannot be made, of a layer that is no tar, is left out.
        """
        for digest in dict.fromkeys(layers):
            content = self._by_digest.get(Digest(digest))
            if isinstance(content, Ingested) and content.table is not None:
                yield digest, content.table()
            elif content is not None and not isinstance(content, Stored):
                with suppress(BrokenArchive), self.open(digest) as reader:
                    yield digest, dump(learn(reader, digest, ignore).table)

    def publish(self, wanted: Mapping[str, Mapping[str, str]]) -> list[Info]:
        """Publish prepared blobs with these labels; return the ones that are new.

        The caller holds a transaction, which undoes this if it fails. Raise MissingMember if a blob
        that only the store held has been collected in the meantime.
        """
        writers = [(writer, wanted[digest]) for digest, writer in self._writers(wanted)]
        added = [c.info for c in self._store.publish(writers) if c.added]
        held = self._store.sizes(wanted)
        for lost in (digest for digest in wanted if digest not in held):
            raise self.absence(lost, "an image of it")
        written = {digest for digest, _ in self._writers(wanted)}
        for digest in wanted.keys() & self._measured.keys() - written:
            self._store.update(digest, wanted[digest])
        for digest in wanted:
            self._by_digest.remove(Digest(digest))
        return added

    def _writers(self, wanted: Iterable[str]) -> Iterator[tuple[str, Writer]]:
        for digest in wanted:
            content = self._by_digest.get(Digest(digest))
            if isinstance(content, Ingested):
                yield digest, content.writer

    def _write_out(self, content: Small) -> Ingested:
        writer = self._store.unnamed_writer(content.size, content.digest)
        try:
            writer.write(content.pread(content.size, 0))
        except BaseException:
            writer.abort()
            raise
        return Ingested(content.name, content.digest, content.size, writer, None)

    def discard(self) -> None:
        """Discard all contents that were not published."""
        if self._sink is not None:
            self._sink.abandon()
            self._sink = None
        for content in self._by_digest.values():
            drop(content)
        if self._spilled is not None:
            self._spilled.abort()
            self._spilled = None
        self._files.clear()
        self._other_names.clear()
        self._by_digest.clear()

    # -- helpers -----------------------------------------------------------------------------------

    def _add_link(self, name: str, kind: str, target: str | None) -> None:
        self._links[name] = (kind, target)
        self.table_bytes += _NAME + sys.getsizeof(name) + _LINK + sys.getsizeof(target)

    def _remove(self, name: str) -> None:
        self._links.pop(name, None)
        self._specials.pop(name, None)
        old = self._files.pop(name, None)
        if old is None:
            return
        if isinstance(old, Damaged):
            return
        others = self._other_names.pop(old.digest, 0)
        if others > 1:
            self._other_names[old.digest] = others - 1
        if others:
            return
        if isinstance(old, Buffered):
            self._buffered -= old.size
        self._by_digest.remove(old.digest)
        drop(old)

    def _spill(self, content: Buffered) -> None:
        """Move a small file out of memory to a file shared with others."""
        if self._spilled is None:
            self._spilled = self._store.unnamed_writer()
        start = self._spilled.status().offset
        self._spilled.write(content.data)
        spilled = Spilled(content.name, content.raw, start, content.size, self._spilled)
        self._files[content.name] = spilled
        self._by_digest.replace(spilled)
        self._buffered -= content.size

    def _open_sink(self, name: str, size: int) -> Sink:
        expected = blob_digest(name)
        if size <= _BUFFERED_MEMBER:
            return BufferSink(name, expected)
        if expected is not None and self._store.sizes([expected]).get(expected) == size:
            self._hold(expected)
            if self._store.exists(expected):
                return CheckSink(name, expected, size, self._labelled(expected))
        algorithm = expected.algorithm if expected else "sha256"
        return IngestSink(
            name, self._store.unnamed_writer(size, algorithm=algorithm), self._expansion
        )

    def _labelled(self, digest: Digest) -> Digest | None:
        label = self._store.info(digest).labels.get(UNCOMPRESSED_LABEL)
        return digests.parse(label) if label else None


def _size_in_table(content: Content) -> int:
    return _INGEST if isinstance(content, Ingested) else _CONTENT


def _blob_path(digest: str) -> str:
    return f"blobs/{digest.replace(':', '/', 1)}"


def _chunks(reader: ReaderAt) -> Iterator[bytes]:
    for offset in range(0, reader.size, _CHUNK):
        yield reader.pread(_CHUNK, offset)

"""What the members of one archive became: small ones in memory, large ones in ingests, each hashed
as it came.

Nothing is visible in the content store before `publish`; `discard` leaves no trace. One intake
belongs to one thread at a time. A blob that the store has already, by the name that the archive
gives it, is hashed and not written again.
"""

import sys
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import closing

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
from engine.layouts.entry import blob_digest
from engine.limits import Expansion
from engine.spec import digest as digests
from engine.spec.digest import Digest
from engine.spec.go_json import JSON_LIMIT
from engine.spec.oci import Descriptor
from engine.stores.protocols import ContentStore
from engine.tar.member import Member, clean_name, resolve_link

_BUFFERED_MEMBER = 64 << 10
_BUFFERED_TOTAL = 8 << 20
_MAX_LINKS = 40
_TOLD_ABSENT = 20
_NAME = 76
_LINK = 104
_CONTENT = 250
_INGEST = 2000
"""About how much memory an entry of the table takes, a link's and a content's more than that."""
_CHUNK = 1 << 20


class MemberIndex:
    """The members of one archive, by name and by digest."""

    def __init__(
        self, store: ContentStore, hold: Callable[[Digest], None], expansion: Expansion
    ) -> None:
        """`hold` leases a blob that the store has already; `expansion` counts what layers come
        to.
        """
        self._expansion = expansion
        self._store = store
        self._hold = hold
        self._files: dict[str, Content | Damaged] = {}
        self._links: dict[str, tuple[str, str | None]] = {}
        self._specials: dict[str, str] = {}
        self._by_digest = Contents()
        self._other_names: dict[Digest, int] = {}
        """How many more names than one a content has."""
        self._measured: dict[Digest, Uncompressed] = {}
        self._made: dict[str, Content] = {}
        self._buffered = 0
        self._spilled: Writer | None = None
        self._sink: Sink | None = None
        self.layers = 0
        """How many files so far look like layers, each content once."""
        self.table_bytes = 0
        """What is remembered of members takes about so much memory, but for the data of files."""

    def start(self, member: Member) -> None:
        """A member begins; its data follows if it is a file."""
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
        """Data of the member that began last."""
        if self._sink is not None:
            self._sink.write(data)

    def end(self) -> None:
        """The member that began last is complete."""
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
        """Take up a document that the archive implies."""
        return self._by_digest.add(Buffered(name, digests.of_bytes(data).raw, data)).digest

    def has(self, name: str) -> bool:
        """Whether there is something of that name, a file or a link or anything else."""
        return name in self._files or name in self._links or name in self._specials

    @property
    def names(self) -> Collection[str]:
        """The names of everything but directories, as they are from the root of the archive."""
        return self._files.keys() | self._links.keys() | self._specials.keys()

    def forget_names(self) -> None:
        """Begin another archive: what came so far is found by its digest only."""
        self._files.clear()
        self._links.clear()
        self._specials.clear()

    def find(self, path: str) -> Content:
        """The file at a path of the archive, through links; BrokenArchive says what is there
        instead.
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
        """The whole of a small file; LimitExceeded, BrokenArchive."""
        content = self.find(path)
        if content.size > JSON_LIMIT:
            raise LimitExceeded(path, "bytes of JSON", JSON_LIMIT, content.size)
        with self.open(content.digest) as reader:
            return reader.pread(content.size, 0)

    # -- as a content provider: the archive first, then the store --------------------------------

    def open(self, digest: str) -> ReaderAt:
        """The bytes of a blob; NotFound."""
        content = self._by_digest.get(Digest(digest))
        if isinstance(content, Small | Ingested):
            return ContentReader(content)
        return self._store.open(digest)

    def sizes(self, wanted: Iterable[str]) -> Mapping[str, int]:
        """The sizes of those blobs that are in the archive or in the store; DigestMismatch for one
        that the archive has damaged.
        """
        found = {d: self._by_digest.get(Digest(d)) for d in wanted}
        known = {d: content.size for d, content in found.items() if content is not None}
        others = [d for d in wanted if d not in known]
        for digest in others:
            if (damaged := self._files.get(_blob_path(digest))) is not None:
                raise DigestMismatch(_blob_path(digest), digest, damaged.digest, damaged.size)
        return {**self._store.sizes(others), **known}

    def stored_as(self, digest: str) -> str:
        """The member that holds a blob, else the digest: what a sentence calls it."""
        content = self._by_digest.get(Digest(digest))
        return content.name if content else digest

    def absence(self, digest: str, subject: str, others: Sequence[str] = ()) -> EngineError:
        """The error for a blob that is neither here nor in the store; `others` are missing too."""
        path = _blob_path(digest)
        if path in self._files:
            return DigestMismatch(path, digest, self._files[path].digest)
        reason = f"is missing from the archive and from the store, {subject} needs it"
        if others:
            more = len(others) - _TOLD_ABSENT
            told = ", ".join(others[:_TOLD_ABSENT]) + (f" and {more} more" if more > 0 else "")
            reason += f"; also missing: {told}"
        return MissingMember(path, reason)

    def uncompressed(self, digest: Digest) -> Uncompressed | None:
        """What a layer is when it is uncompressed, if that was learnt on the way in."""
        content = self._by_digest.get(digest)
        if isinstance(content, Ingested):
            return content.uncompressed
        return self._measured.get(digest)

    def diff_id(self, digest: Digest, algorithm: str = "sha256") -> Digest:
        """The digest of a layer's uncompressed bytes; BrokenArchive if they cannot be had."""
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
        """A plain layer in another form: one that the store has already, else one that is made."""
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
        """A layer's file as an image can have it: xz, bzip2, lzma and lz4, for which OCI has no
        media type, are decompressed. BrokenArchive, LimitExceeded.
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
        """What `write` makes of a blob, made once."""
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

    # -- the end ----------------------------------------------------------------------------------

    def prepare(self, wanted: Iterable[str]) -> None:
        """Make the bytes of blobs durable, so that `publish` is short."""
        for digest in wanted:
            content = self._by_digest.get(Digest(digest))
            if isinstance(content, Small):
                self._by_digest.replace(self._write_out(content))
        self._store.prepare(writer for _, writer in self._writers(wanted))

    def publish(self, wanted: Mapping[str, Mapping[str, str]]) -> list[Info]:
        """Make prepared blobs visible, with these labels; those that are new.

        To be called inside the caller's transaction, which takes them back if it fails.
        BrokenArchive if one that only the store had has just been collected.
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
        """Drop everything that was not published."""
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

    # -- within -----------------------------------------------------------------------------------

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
        """Move a small file out of memory, to others in one file."""
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

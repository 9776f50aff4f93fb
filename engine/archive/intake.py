"""What the members of one archive became: small ones in memory, large ones in ingests, each hashed
as it came.

Nothing is visible in the content store before `publish`; `discard` leaves no trace. One intake
belongs to one thread at a time. A blob that the store has already, by the name that the archive
gives it, is hashed and not written again.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from typing import Protocol, Self

import msgspec

from engine import decompress
from engine import digest as digests
from engine.archive.members import Member, clean_name, resolve_link
from engine.beside import beside
from engine.compression import Compression
from engine.content import Info, ReaderAt
from engine.content.diff_ids import (
    UNCOMPRESSED_LABEL,
    Measure,
    Uncompressed,
    compression_from,
    compression_of,
    measure,
)
from engine.content.local import LocalStore, LocalWriter
from engine.digest import Digest
from engine.errors import (
    BrokenArchive,
    DigestMismatch,
    EngineError,
    LimitExceeded,
    MissingMember,
)
from engine.go_json import JSON_LIMIT
from engine.layouts import blob_digest
from engine.oci import Descriptor

_BUFFERED_MEMBER = 64 << 10
_BUFFERED_TOTAL = 16 << 20
_MAX_LINKS = 40
_TOLD_ABSENT = 20
_CHUNK = 1 << 20


class Buffered(msgspec.Struct, frozen=True):
    """A member kept in memory."""

    name: str
    digest: Digest
    data: bytes

    @property
    def size(self) -> int:
        return len(self.data)

    def pread(self, size: int, offset: int) -> bytes:
        return self.data[offset : offset + size]


class Ingested(msgspec.Struct, frozen=True):
    """A member that lies in an ingest."""

    name: str
    digest: Digest
    size: int
    writer: LocalWriter
    uncompressed: Uncompressed | None

    def pread(self, size: int, offset: int) -> bytes:
        return self.writer.pread(size, offset)


class Stored(msgspec.Struct, frozen=True):
    """A member that was in the content store before."""

    name: str
    digest: Digest
    size: int
    diff_id: Digest | None


class Damaged(msgspec.Struct, frozen=True):
    """A member whose name promises what the store has, and whose bytes are something else."""

    name: str
    digest: Digest
    size: int
    expected: Digest


Content = Buffered | Ingested | Stored


class Intake:
    """The members of one archive, by name and by digest."""

    def __init__(self, store: LocalStore, hold: Callable[[Digest], None]) -> None:
        """`hold` leases a blob that the store has already."""
        self._store = store
        self._hold = hold
        self._files: dict[str, Content | Damaged] = {}
        self._links: dict[str, tuple[str, str | None]] = {}
        self._specials: dict[str, str] = {}
        self._by_digest: dict[Digest, Content] = {}
        self._names: Counter[Digest] = Counter()
        self._damaged: dict[str, Damaged] = {}
        self._measured: dict[Digest, Uncompressed] = {}
        self._made: dict[str, Content] = {}
        self._buffered = 0
        self._sink: _Sink | None = None
        self.layers = 0

    def start(self, member: Member) -> None:
        """A member begins; its data follows if it is a file."""
        name = clean_name(member.name)
        if name is None or member.kind == "dir":
            return
        self._remove(name)
        if member.kind == "file":
            self._sink = self._open_sink(name, member.size)
        elif member.kind == "symlink":
            self._links[name] = (member.kind, resolve_link(name, member.linkname))
        elif member.kind == "hardlink":
            self._links[name] = (member.kind, clean_name(member.linkname))
        else:
            self._specials[name] = member.kind

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
        self.layers += not (isinstance(content, Buffered) and content.data[:1] in b"{[")
        if isinstance(content, Damaged):
            self._files[content.name] = self._damaged[content.expected] = content
            return
        kept = self._by_digest.setdefault(content.digest, content)
        self._files[content.name] = kept
        self._names[kept.digest] += 1
        if kept is not content:
            _drop(content)
        elif isinstance(content, Buffered):
            self._buffered += content.size

    def add(self, name: str, data: bytes) -> Digest:
        """Take up a document that the archive implies."""
        content = Buffered(name, digests.of_bytes(data), data)
        return self._by_digest.setdefault(content.digest, content).digest

    def has(self, name: str) -> bool:
        """Whether there is something of that name, a file or a link or anything else."""
        return name in self._files or name in self._links or name in self._specials

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
        if isinstance(content, Buffered | Ingested):
            return _ContentReader(content)
        return self._store.open(digest)

    def sizes(self, wanted: Iterable[str]) -> Mapping[str, int]:
        """The sizes of those blobs that are in the archive or in the store; DigestMismatch for one
        that the archive has damaged.
        """
        known = {d: self._by_digest[Digest(d)].size for d in wanted if d in self._by_digest}
        others = [d for d in wanted if d not in known]
        for damaged in (self._damaged[d] for d in others if d in self._damaged):
            raise DigestMismatch(damaged.name, damaged.expected, damaged.digest)
        return {**self._store.sizes(others), **known}

    def stored_as(self, digest: str) -> str:
        """The member that holds a blob, else the digest: what a sentence calls it."""
        content = self._by_digest.get(Digest(digest))
        return content.name if content else digest

    def absence(self, digest: str, subject: str, others: Sequence[str] = ()) -> EngineError:
        """The error for a blob that is neither here nor in the store; `others` are missing too."""
        algorithm, _, encoded = digest.partition(":")
        path = f"blobs/{algorithm}/{encoded}"
        if path in self._files:
            return DigestMismatch(path, digest, self._files[path].digest)
        reason = f"is missing from the archive and from the store, {subject} needs it"
        if others:
            more = len(others) - _TOLD_ABSENT
            told = ", ".join(others[:_TOLD_ABSENT]) + (f" and {more} more" if more > 0 else "")
            reason += f"; also missing: {told}"
        return BrokenArchive(path, reason)

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
            case Buffered():
                measured = self._measured.get(digest)
                known = measured.diff_id if measured else None
            case None:
                known = self._labelled(digest)
        if known is not None and known.algorithm == algorithm:
            return known
        with self.open(digest) as reader:
            if digest.algorithm == algorithm and compression_of(reader) == "none":
                return digest
            measured = measure(reader, self.stored_as(digest), algorithm)
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
        made = self._made.get(layer.digest)
        if made is None:
            writer = self._store.unnamed_writer()
            try:
                with (
                    self.open(layer.digest) as reader,
                    closing(compression.start(writer.write)) as compressor,
                ):
                    for chunk in _chunks(reader):
                        compressor.write(chunk)
                    compressor.finish()
                size = writer.status().offset
            except BaseException:
                writer.abort()
                raise
            plain = Uncompressed(Digest(layer.digest), layer.size)
            made = Ingested(self.stored_as(layer.digest), writer.digest(), size, writer, plain)
            kept = self._by_digest.setdefault(made.digest, made)
            if kept is not made:
                _drop(made)
            made = self._made[layer.digest] = kept
        return made

    # -- the end ----------------------------------------------------------------------------------

    def prepare(self, wanted: Iterable[str]) -> None:
        """Make the bytes of blobs durable, so that `publish` is short."""
        for digest in wanted:
            content = self._by_digest.get(Digest(digest))
            if isinstance(content, Buffered):
                self._by_digest[content.digest] = self._write_out(content)
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
            self._by_digest.pop(Digest(digest), None)
        return added

    def _writers(self, wanted: Iterable[str]) -> Iterator[tuple[str, LocalWriter]]:
        for digest in wanted:
            content = self._by_digest.get(Digest(digest))
            if isinstance(content, Ingested):
                yield digest, content.writer

    def _write_out(self, content: Buffered) -> "Ingested":
        writer = self._store.unnamed_writer(content.size, content.digest)
        try:
            writer.write(content.data)
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
            _drop(content)
        self._files.clear()
        self._names.clear()
        self._by_digest.clear()
        self._damaged.clear()

    # -- within -----------------------------------------------------------------------------------

    def _remove(self, name: str) -> None:
        self._links.pop(name, None)
        self._specials.pop(name, None)
        old = self._files.pop(name, None)
        if old is None:
            return
        if isinstance(old, Damaged):
            self._damaged.pop(old.expected, None)
            return
        self._names[old.digest] -= 1
        if self._names[old.digest]:
            return
        del self._names[old.digest]
        if isinstance(old, Buffered):
            self._buffered -= old.size
        _drop(self._by_digest.pop(old.digest, old))

    def _open_sink(self, name: str, size: int) -> "_Sink":
        expected = blob_digest(name)
        if size <= _BUFFERED_MEMBER and self._buffered + size <= _BUFFERED_TOTAL:
            return _BufferSink(name, expected)
        if expected is not None and self._store.sizes([expected]).get(expected) == size:
            self._hold(expected)
            if self._store.exists(expected):
                return _CheckSink(name, expected, size, self._labelled(expected))
        algorithm = expected.algorithm if expected else "sha256"
        return _IngestSink(name, self._store.unnamed_writer(size, algorithm=algorithm))

    def _labelled(self, digest: Digest) -> Digest | None:
        label = self._store.info(digest).labels.get(UNCOMPRESSED_LABEL)
        return digests.parse(label) if label else None


def _drop(content: Content) -> None:
    if isinstance(content, Ingested):
        content.writer.abort()


class _Sink(Protocol):
    """Where the data of one member goes."""

    def write(self, data: memoryview) -> None: ...

    def close(self) -> Content | Damaged: ...

    def abandon(self) -> None: ...


class _BufferSink:
    def __init__(self, name: str, expected: Digest | None) -> None:
        self._name = name
        self._algorithm = expected.algorithm if expected else "sha256"
        self._data = bytearray()

    def write(self, data: memoryview) -> None:
        self._data += data

    def close(self) -> Content:
        data = bytes(self._data)
        return Buffered(self._name, digests.of_bytes(data, self._algorithm), data)

    def abandon(self) -> None:
        self._data.clear()


class _IngestSink:
    def __init__(self, name: str, writer: LocalWriter) -> None:
        self._name = name
        self._writer = writer
        self._size = 0
        self._diff = _DiffHasher()

    def write(self, data: memoryview) -> None:
        measured = beside(self._diff.write, data)
        try:
            self._writer.write(data)
        finally:
            measured()
        self._size += len(data)

    def close(self) -> Content:
        digest = self._writer.digest()
        uncompressed = self._diff.close(digest, self._size)
        return Ingested(self._name, digest, self._size, self._writer, uncompressed)

    def abandon(self) -> None:
        self._writer.abort()


class _CheckSink:
    """For a blob that the store has: hashes, writes nothing."""

    def __init__(self, name: str, expected: Digest, size: int, diff_id: Digest | None) -> None:
        self._name = name
        self._expected = expected
        self._size = size
        self._diff_id = diff_id
        self._hash = digests.hasher(expected.algorithm)

    def write(self, data: memoryview) -> None:
        self._hash.update(data)

    def close(self) -> Content | Damaged:
        found = digests.from_hash(self._expected.algorithm, self._hash)
        if found != self._expected:
            return Damaged(self._name, found, self._size, self._expected)
        return Stored(self._name, found, self._size, self._diff_id)

    def abandon(self) -> None:
        """Nothing was kept."""


class _DiffHasher:
    """Measures what a compressed layer holds while it streams by."""

    def __init__(self) -> None:
        self._head = bytearray()
        self._decompressor: decompress.Decompressor | None = None
        self._measure = Measure()
        self._is_plain = False
        self._failed = False

    def write(self, data: memoryview) -> None:
        if self._is_plain or self._failed:
            return
        if len(self._head) < decompress.SNIFFED:
            taken = decompress.SNIFFED - len(self._head)
            self._head += data[:taken]
            if len(self._head) < decompress.SNIFFED:
                return
            kind = compression_from(bytes(self._head))
            if kind == "none":
                self._is_plain = True
                return
            self._decompressor = decompress.new(kind)
            self._feed(bytes(self._head))
            data = data[taken:]
        self._feed(data)

    def close(self, digest: Digest, size: int) -> Uncompressed | None:
        """What the member of this digest and size is when it is uncompressed, None where it cannot
        be.
        """
        if self._decompressor is None:
            return Uncompressed(digest, size)
        if self._failed:
            return None
        try:
            self._decompressor.finish()
        except BrokenArchive:
            return None
        return self._measure.result()

    def _feed(self, data: bytes | memoryview) -> None:
        assert self._decompressor is not None
        try:
            for chunk in self._decompressor.feed(data):
                self._measure.update(chunk)
        except BrokenArchive:
            self._failed = True


class _ContentReader:
    """A member as a reader of a content store."""

    def __init__(self, content: Buffered | Ingested) -> None:
        self._content = content
        self.size = content.size

    def pread(self, size: int, offset: int) -> bytes:
        return self._content.pread(size, offset)

    def fileno(self) -> int:
        raise OSError("a member of an archive has no file of its own")

    def close(self) -> None:
        """Nothing is held."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _chunks(reader: ReaderAt) -> Iterator[bytes]:
    for offset in range(0, reader.size, _CHUNK):
        yield reader.pread(_CHUNK, offset)


__all__ = ["Content", "Intake"]

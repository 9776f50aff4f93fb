"""An uncompressed archive on disk with an OCI layout, and the addition of images to it.

`ExistingArchive` gives its entries, and reads its blobs from the archive file. `Extended` is the
destination that adds images to them. Whoever replaces the file by an extended one holds it `locked`
meanwhile, so that no addition of another process is lost.
"""

import errno
import fcntl
import os
import stat
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, Final

import msgspec
from msgspec.structs import replace

from engine.archive import file_types
from engine.archive.entry_content import Source
from engine.archive.save import Destination
from engine.closing import Closing
from engine.content.protocols import Provider, ReaderAt
from engine.errors import BrokenArchive, LimitExceeded, NotFound
from engine.layouts.entry import Entry, blob_digest
from engine.layouts.union import INDEX, LAYOUT, MANIFEST, REPOSITORIES, union
from engine.limits import BUFFER_SIZE, Limits
from engine.spec import oci
from engine.spec.digest import Digest
from engine.spec.go_json import JSON_LIMIT
from engine.tar.header_decoder import BLOCK
from engine.tar.member import Member, clean_name
from engine.tar.reader import MemberData, MemberEnd, MemberStart, TarReader
from engine.tracing import Tracer

_DOCUMENTS: Final = (INDEX, MANIFEST, LAYOUT)
_READ: Final = os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC
_NO_LOCKS: Final = frozenset({errno.EBADF, errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP})
"""The errors of file systems without locks, and of NFS, which locks only what can be written."""
_ZEROS: Final = memoryview(bytes(BUFFER_SIZE))
_ADVICE: Final = "load the file, and save all images of it in one archive"


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold the lock of the archive that is at a path, where the file system has locks.

    Wait for other holders. If one of them has replaced the file, the new one is locked. Raise
    BrokenArchive for what is no regular file, and OSError.
    """
    while True:
        with open(os.open(path, _READ), "rb") as file:
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                raise BrokenArchive("", f"{path}: expected a regular file")
            _lock(file.fileno())
            if os.path.samestat(os.fstat(file.fileno()), path.stat()):
                yield
                return


def _lock(descriptor: int) -> None:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
    except OSError as error:
        if error.errno not in _NO_LOCKS:
            raise


class ExistingArchive(Closing):
    """A `Provider` of the blobs of an archive file. Thread-safe."""

    def __init__(self, path: Path) -> None:
        """Read the entries but not the blobs.

        Raise BrokenArchive unless the file is one uncompressed archive with an OCI layout, whole
        and with nothing behind it; InvalidDocument for a version that is not supported;
        LimitExceeded for a document that is too large; OSError.
        """
        self._file: BinaryIO = path.open("rb")
        try:
            scan = _Scan(self._file)
            scan.run(str(path))
            for document in (INDEX, LAYOUT):
                if document not in scan.entries:
                    raise BrokenArchive(document, f"is missing from {path}")
            oci.parse_layout(scan.document(LAYOUT))
        except BaseException:
            self._file.close()
            raise
        self.entries = tuple(scan.entries.values())
        self._places = scan.places

    def open(self, digest: str) -> ReaderAt:
        """Open a blob; raise NotFound if the archive does not hold it."""
        try:
            offset, size = self._places[Digest(digest)]
        except KeyError:
            raise NotFound("blob", digest) from None
        return _Region(self._file, offset, size)

    def before(self, others: Provider) -> Provider:
        """Return a provider of these blobs, and of the blobs that only `others` has."""
        return _Either(self, others)

    def close(self) -> None:
        self._file.close()


class Extended(msgspec.Struct, frozen=True):
    """The destination of a layout: another one, with the entries of an archive as well."""

    existing: ExistingArchive
    output: Destination

    @property
    def tracer(self) -> Tracer:
        return self.output.tracer

    def write_layout(self, entries: Sequence[Entry], source: Source) -> int:
        """Write the entries of both; raise the errors of `union` and of the output."""
        both = replace(source, blobs=self.existing.before(source.blobs))
        return self.output.write_layout(union(self.existing.entries, entries), both)


class _Scan:
    """A pass over the only archive in a file, which reads everything but the bytes of blobs.

    `places` are the offsets and sizes of the blobs in the file.
    """

    def __init__(self, file: BinaryIO) -> None:
        self.entries: dict[str, Entry] = {}
        self.places: dict[Digest, tuple[int, int]] = {}
        self._descriptor = file.fileno()
        self._size = os.fstat(self._descriptor).st_size
        self._tar = TarReader(Limits())
        self._member = Member("", "", 0)
        self._data = bytearray()
        self._skips = False

    def document(self, path: str) -> bytes:
        """Return the content of a document that is there."""
        content = self.entries[path].content
        assert isinstance(content, bytes)
        return content

    def run(self, subject: str) -> None:
        """Raise BrokenArchive for a tar that a load refuses, and for what is no OCI layout."""
        try:
            self._read()
        except BrokenArchive as error:
            if error.member:
                raise
            what = "" if self._tar.members else "expected an uncompressed tar: it "
            raise BrokenArchive("", f"{subject}: {what}{error.reason}") from error

    def _read(self) -> None:
        while not self._tar.ended and (piece := self._next()):
            for event in self._tar.feed(piece):
                match event:
                    case MemberStart(member):
                        self._start(member)
                    case MemberData(data) if _path(self._member) in _DOCUMENTS:
                        self._data += data
                    case MemberEnd():
                        self._end(self._member)
        self._tar.finish()
        if not self._tar.ended:
            raise BrokenArchive("", "is truncated: it has no end")
        self._check_rest()

    def _next(self) -> memoryview:
        """Return the next bytes up to a header, with zeros in the place of those of a blob."""
        length = min(self._tar.wanted, self._size - self._tar.fed, BUFFER_SIZE)
        if self._skips:
            return _ZEROS[:length]
        return memoryview(os.pread(self._descriptor, length, self._tar.fed))

    def _start(self, member: Member) -> None:
        path = _path(member)
        is_document = path in _DOCUMENTS
        if is_document and member.size > JSON_LIMIT:
            raise LimitExceeded(path, "bytes of JSON", JSON_LIMIT, member.size)
        is_sparse = self._tar.wanted != member.size + -member.size % BLOCK
        self._member, self._skips = member, not (is_document or is_sparse)

    def _end(self, member: Member) -> None:
        path, self._skips = _path(member), False
        if path == REPOSITORIES or (path == "" and member.kind == "dir"):
            return
        entry = self._entry(path, member)
        before = self.entries.get(path)
        if before is not None and isinstance(entry.content, bytes) and before != entry:
            raise BrokenArchive(path, f"is in the archive twice: {_ADVICE}")
        self.entries[path] = entry

    def _entry(self, path: str, member: Member) -> Entry:
        if member.kind == "dir" and f"{path}/".startswith("blobs/"):
            return Entry.directory(path, 0)
        digest = blob_digest(path)
        if member.kind != "file" or (digest is None and path not in _DOCUMENTS):
            raise BrokenArchive(member.name, "is not of an OCI layout")
        if self._tar.segments is not None:
            raise BrokenArchive(member.name, "is sparse: expected an archive without such members")
        if digest is not None:
            self.places[digest] = (self._tar.data_start, member.size)
            return Entry.blob(digest, member.size, "")
        data = bytes(self._data)
        self._data.clear()
        return Entry.file(path, 0o444 if path == LAYOUT else 0o644, 0, data)

    def _check_rest(self) -> None:
        """Raise BrokenArchive unless only zeros follow the end of the archive."""
        position = self._tar.fed
        while data := os.pread(self._descriptor, BUFFER_SIZE, position):
            position += len(data)
            if rest := data.lstrip(b"\0"):
                head = os.pread(self._descriptor, BLOCK, position - len(rest))
                if file_types.is_tar(head):
                    raise BrokenArchive("", f"has another archive behind its end: {_ADVICE}")
                raise BrokenArchive("", "has something behind its end: take it out of the file")


def _path(member: Member) -> str:
    """Return the path of a member in the layout, ".." for one that leads outside."""
    path = clean_name(member.name)
    return ".." if path is None else path


class _Either:
    def __init__(self, first: Provider, second: Provider) -> None:
        self._first = first
        self._second = second

    def open(self, digest: str) -> ReaderAt:
        try:
            return self._first.open(digest)
        except NotFound:
            return self._second.open(digest)


class _Region(Closing):
    """A `ReaderAt` of a part of a file."""

    def __init__(self, file: BinaryIO, offset: int, size: int) -> None:
        self._file = file
        self._offset = offset
        self.size = size

    def pread(self, length: int, offset: int) -> bytes:
        wanted = max(0, min(length, self.size - offset))
        return os.pread(self._file.fileno(), wanted, self._offset + offset)

    def fileno(self) -> None:
        """Return None: a member of an archive has no file of its own."""

    def close(self) -> None:
        """Do nothing: the `ExistingArchive` closes the file."""

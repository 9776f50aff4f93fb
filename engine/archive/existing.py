"""An uncompressed archive on disk with an OCI layout, and the addition of images to it.

`ExistingArchive` gives its entries, and reads its blobs from the archive file. Whoever replaces the
file by an extended one holds it `locked` meanwhile, so that no addition of another process is lost.
"""

import errno
import fcntl
import os
import stat
import tarfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import BinaryIO, Final

from engine.archive.save import Destination, write_images
from engine.archive.trimmed import Trimmed
from engine.closing import Closing
from engine.content.protocols import Provider, ReaderAt
from engine.errors import BrokenArchive, LimitExceeded, NotFound
from engine.image import Image
from engine.layouts import combined
from engine.layouts.entry import Entry, blob_digest
from engine.layouts.union import union
from engine.spec import docker
from engine.spec.digest import Digest
from engine.spec.go_json import JSON_LIMIT
from engine.stores.protocols import Store
from engine.tar.member import clean_name

_DOCUMENTS: Final = ("index.json", docker.MANIFEST_FILE, "oci-layout")
_FORGOTTEN: Final = (docker.REPOSITORIES_FILE,)
_READ: Final = os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC
_NO_LOCKS: Final = frozenset({errno.EBADF, errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP})
"""The errors of file systems without locks, and of NFS, which locks only what can be written."""


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

        Raise BrokenArchive unless the file is an uncompressed archive with an OCI layout;
        LimitExceeded for a document that is too large; OSError.
        """
        self._file: BinaryIO = path.open("rb")
        self._places: dict[Digest, tuple[int, int]] = {}
        try:
            self.entries = self._read(str(path))
        except BaseException:
            self._file.close()
            raise

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

    def _read(self, subject: str) -> tuple[Entry, ...]:
        found: dict[str, Entry] = {}
        try:
            with tarfile.open(fileobj=self._file, mode="r:") as archive:
                for member in archive:
                    entry = self._entry(archive, member)
                    if entry is not None:
                        found[entry.path] = entry
        except tarfile.TarError as error:
            raise BrokenArchive("", f"{subject}: expected an uncompressed tar: {error}") from error
        for document in ("index.json", "oci-layout"):
            if document not in found:
                raise BrokenArchive(document, f"is missing from {subject}")
        return tuple(found.values())

    def _entry(self, archive: tarfile.TarFile, member: tarfile.TarInfo) -> Entry | None:
        path = clean_name(member.name)
        if path in ("", *_FORGOTTEN):
            return None
        if path == "blobs" or (path and path.startswith("blobs/") and member.isdir()):
            return Entry.directory(path, 0)
        digest = blob_digest(path or "")
        if not member.isreg() or member.issparse() or (digest is None and path not in _DOCUMENTS):
            raise BrokenArchive(member.name, "is not of an OCI layout")
        assert path is not None
        if digest is not None:
            self._places[digest] = (member.offset_data, member.size)
            return Entry.blob(digest, member.size, "")
        if member.size > JSON_LIMIT:
            raise LimitExceeded(path, "bytes of JSON", JSON_LIMIT, member.size)
        file = archive.extractfile(member)
        assert file is not None
        mode = 0o444 if path == "oci-layout" else 0o644
        return Entry.file(path, mode, 0, file.read())


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


def extend(
    store: Store,
    archive: Path,
    images: Sequence[Image],
    options: combined.Options,
    output: Destination,
) -> int:
    """Write one archive of the entries of `archive` and these images; return its size in bytes.

    The caller holds it `locked` if the new archive replaces it. Raise the errors of `save` and of
    `ExistingArchive`.
    """
    added = partial(combined.layout, images, store.content, options)
    return _extend(store, archive, images, added, store.content, output)


def extend_trimmed(
    store: Store,
    archive: Path,
    images: Sequence[Image],
    options: combined.Options,
    output: Destination,
) -> Sequence[Image]:
    """As `extend`, with indexes that list only what is there; return the images that were added.

    Raise also the errors of `Trimmed`.
    """
    trimmed = Trimmed(images, store.content, options)
    added = partial(combined.layout, trimmed.images, trimmed, options)
    _extend(store, archive, images, added, trimmed, output)
    return trimmed.images


def _extend(
    store: Store,
    archive: Path,
    images: Sequence[Image],
    added: Callable[[], Sequence[Entry]],
    content: Provider,
    output: Destination,
) -> int:
    """Write the entries of an archive and those that `added` returns, with blobs of `content`."""
    with ExistingArchive(archive) as existing:

        def layout() -> Sequence[Entry]:
            return union(existing.entries, added())

        return write_images(store, images, layout, existing.before(content), output)

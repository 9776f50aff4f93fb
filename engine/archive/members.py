"""The files of an archive by name, and as the readers of archives see them.

`MemberNames` says what each name stands for; the contents are in a `ContentPool`. `Members` joins
both: the formats (`oci_archive`, `docker_archive`, `legacy_archive`) read images out of it, and it
is a source of blobs for `engine.graph`.
"""

import sys
from collections.abc import Collection, Iterable, Mapping, Sequence

import msgspec

from engine.archive.archive_documents import ArchiveDocuments
from engine.archive.content_pool import ContentPool, blob_path, missing_blob
from engine.archive.member_content import Content, Damaged
from engine.content.protocols import ReaderAt
from engine.errors import (
    BrokenArchive,
    DigestMismatch,
    EngineError,
    InvalidDigest,
    LimitExceeded,
    MissingMember,
)
from engine.spec import digest as digests
from engine.spec.digest import Digest
from engine.spec.go_json import JSON_LIMIT
from engine.tar.member import clean_name

_MAX_LINKS = 40
_NAME = 76
_LINK = 104
_DAMAGED = 250
"""The approximate memory in bytes of an entry of the table."""


class Link(msgspec.Struct, frozen=True, gc=False):
    """A link: "symlink" or "hardlink", and a clean name, or None if it leads out of the archive."""

    kind: str
    target: str | None


class Special(msgspec.Struct, frozen=True, gc=False):
    """A member that is neither a file nor a link, such as a device."""

    kind: str


Named = bytes | Damaged | Link | Special
"""The value of a name: a raw digest for a file whose content is in the pool."""


class MemberNames:
    """The names of an archive's members but directories, clean and relative to its root."""

    def __init__(self) -> None:
        self._named: dict[str, Named] = {}
        self.table_bytes = 0
        """The approximate memory in bytes of the table."""

    def put(self, name: str, named: Named) -> None:
        """Give a name that is free."""
        self._named[name] = named
        self.table_bytes += _size_in_table(name, named)

    def pop(self, name: str) -> Named | None:
        """Free a name; return what it stood for."""
        named = self._named.pop(name, None)
        if named is not None:
            self.table_bytes -= _size_in_table(name, named)
        return named

    def get(self, name: str) -> Named | None:
        """Return what a name stands for, None if it is free."""
        return self._named.get(name)

    def below(self, prefix: str) -> list[str]:
        """Return the names that begin with `prefix`."""
        return [name for name in self._named if name.startswith(prefix)]

    def all(self) -> Collection[str]:
        """Return all names."""
        return self._named.keys()

    def clear(self) -> None:
        """Free all names."""
        self._named.clear()
        self.table_bytes = 0


class Members:
    """The files below one directory of an archive, and the blobs of the store."""

    def __init__(self, names: MemberNames, pool: ContentPool, root: str = "") -> None:
        """`root` is "" or ends in "/". All names and paths here are relative to it."""
        self._names = names
        self._root = root
        self.pool = pool
        self.forget_documents()

    def forget_documents(self) -> None:
        """Read every document again when it is needed."""
        self.documents = ArchiveDocuments(self.pool.limits.max_document_bytes)

    def has(self, name: str) -> bool:
        """Return whether there is a member of that name other than a directory."""
        return self._names.get(self._root + name) is not None

    @property
    def names(self) -> Collection[str]:
        """The names of all members but directories."""
        if not self._root:
            return self._names.all()
        return [name.removeprefix(self._root) for name in self._names.below(self._root)]

    def find(self, path: str) -> Content:
        """Return the file at a path, following links.

        Raise MissingMember if it is absent, BrokenArchive if the path leads to another kind of
        member or out of the archive, and DigestMismatch if its content does not match its name.
        """
        clean = clean_name(path)
        if clean is None:
            raise BrokenArchive(path, "leaves the archive")
        name = self._root + clean
        for _ in range(_MAX_LINKS):
            match self._names.get(name):
                case bytes() as raw if (content := self.pool.with_raw(raw)) is not None:
                    return content
                case Damaged(expected=expected, digest=found):
                    raise DigestMismatch(name, expected, found)
                case Special(kind):
                    raise BrokenArchive(path, f"expected a file, found a {kind}")
                case Link(kind, None):
                    raise BrokenArchive(path, f"is a {kind} that leaves the archive")
                case Link(_, str() as target):
                    name = target
                case _:
                    raise MissingMember(path)
        raise BrokenArchive(path, f"is a link that needs more than {_MAX_LINKS} steps")

    def document(self, path: str) -> bytes:
        """Return the content of a small file.

        Raise LimitExceeded if it is larger than `JSON_LIMIT`, and the errors of `find`.
        """
        content = self.find(path)
        if content.size > JSON_LIMIT:
            raise LimitExceeded(path, "bytes of JSON", JSON_LIMIT, content.size)
        self.documents.note(content.size)
        with self.open(content.digest) as reader:
            return reader.pread(content.size, 0)

    def open(self, digest: str) -> ReaderAt:
        """Open a blob of the archive or of the store; raise NotFound if neither holds it."""
        return self.pool.open(digest)

    def sizes(self, wanted: Iterable[str]) -> Mapping[str, int]:
        """Return the sizes in bytes of those blobs that the archive or the store holds.

        Raise DigestMismatch for a blob whose content in the archive does not match its name.
        """
        wanted = tuple(wanted)
        for digest in wanted:
            if self.pool.get(Digest(digest)) is None and (other := self._with_name_of(digest)):
                raise DigestMismatch(blob_path(digest), digest, other.digest, other.size)
        return self.pool.sizes(wanted)

    def absence(self, digest: str, subject: str, others: Sequence[str] = ()) -> EngineError:
        """Return the error for an absent blob; `others` are further absent blobs that it lists."""
        if (other := self._with_name_of(digest)) and other.digest != digest:
            return DigestMismatch(blob_path(digest), digest, other.digest)
        return missing_blob(digest, subject, others)

    def add(self, name: str, data: bytes) -> Digest:
        """Add a document that was created from the archive; return its digest."""
        self.documents.note(len(data))
        return self.pool.add_document(name, data)

    def _with_name_of(self, digest: str) -> Content | Damaged | None:
        """Return what has been received under the name of a blob."""
        named = self._names.get(self._root + blob_path(digest))
        return self.pool.with_raw(named) if isinstance(named, bytes) else _damaged(named)


def _size_in_table(name: str, named: Named) -> int:
    size = _NAME + sys.getsizeof(name)
    if isinstance(named, Link):
        return size + _LINK + sys.getsizeof(named.target)
    return size + _DAMAGED if isinstance(named, Damaged) else size


def _damaged(named: Named | None) -> Damaged | None:
    return named if isinstance(named, Damaged) else None


def blob_at(path: str) -> Digest | None:
    """Return the digest in a path that ends in blobs/ALGORITHM/HEX, None for any other path."""
    match path.rsplit("/", 3)[-3:]:
        case ["blobs", algorithm, encoded]:
            try:
                return digests.parse(f"{algorithm}:{encoded}")
            except InvalidDigest:
                return None
    return None

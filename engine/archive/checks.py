"""Checks of the content of an entry while it is read: by its digest, or by what others found.

A check belongs to one content, and to one thread at a time.
"""

from collections.abc import Callable
from typing import Protocol

from engine.archive.hashed_ahead import Hashed
from engine.compression.checksum import crc32
from engine.errors import ChangedFile, DigestMismatch, SizeMismatch
from engine.layouts.entry import Entry
from engine.spec import digest as digests
from engine.spec.digest import Digest
from engine.threads import run_concurrently

Data = bytes | memoryview


class Check(Protocol):
    """A check of bytes that arrive in pieces; `size` counts them."""

    size: int

    def update(self, data: Data) -> None:
        """Take the next bytes."""

    def begin(self, data: Data) -> Callable[[], object]:
        """Take the next bytes, maybe in another thread; return a function that waits for it."""

    def end(self) -> None:
        """Raise SizeMismatch, DigestMismatch or ChangedFile if the bytes are not those expected."""


class DigestCheck:
    """A check by the digest of the bytes."""

    def __init__(self, entry: Entry, digest: Digest) -> None:
        self._entry = entry
        self._digest = digest
        self._hasher = digests.hasher(digest.algorithm)
        self.size = 0

    def update(self, data: Data) -> None:
        self._hasher.update(data)
        self.size += len(data)

    def begin(self, data: Data) -> Callable[[], object]:
        return run_concurrently(self.update, memoryview(data))

    def end(self) -> None:
        _check_size(self._entry, self.size)
        _check_digest(
            self._entry, self._digest, digests.from_hash(self._digest.algorithm, self._hasher)
        )


class HashedCheck:
    """A check of a blob that another thread hashes: by its digest, and that these are its bytes."""

    def __init__(self, entry: Entry, digest: Digest, hashed: Callable[[], Hashed]) -> None:
        self._entry = entry
        self._digest = digest
        self._hashed = hashed
        self._checksum = 0
        self.size = 0

    def update(self, data: Data) -> None:
        self._checksum = crc32(data, self._checksum)
        self.size += len(data)

    def begin(self, data: Data) -> Callable[[], object]:
        self.update(data)
        return _nothing

    def end(self) -> None:
        _check_size(self._entry, self.size)
        found = self._hashed()
        _check_digest(self._entry, self._digest, found.digest)
        if found.checksum != self._checksum:
            raise ChangedFile(self._entry.path)


class PutCheck:
    """A check of a blob that another thread hashes and puts where it belongs."""

    def __init__(self, entry: Entry, digest: Digest, hashed: Callable[[], Hashed]) -> None:
        self._entry = entry
        self._digest = digest
        self._hashed = hashed
        self.size = entry.size

    def update(self, data: Data) -> None:
        """Do nothing: no bytes are left to be read."""

    def begin(self, data: Data) -> Callable[[], object]:
        self.update(data)
        return _nothing

    def end(self) -> None:
        _check_digest(self._entry, self._digest, self._hashed().digest)


def _nothing() -> None:
    """Return at once: the bytes are taken."""


def _check_size(entry: Entry, found: int) -> None:
    if found != entry.size:
        raise SizeMismatch(entry.path, entry.size, found)


def _check_digest(entry: Entry, expected: Digest, found: Digest) -> None:
    if found != expected:
        raise DigestMismatch(entry.path, expected, found)

"""The protocols of a content store, and the values that they exchange.

A blob is immutable and named by its digest. It is written through an *ingest*, which is named by a
`ref` that its writer chooses, and becomes visible when the ingest is committed. The protocols
follow containerd's `core/content`. Code that only reads takes a `Provider`; `engine.stores.content`
has all that a content store does.

Times are in seconds since the epoch and sizes in bytes. Methods that take a digest as text raise
InvalidDigest if it is not a valid one.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final, Protocol, Self

import msgspec

from engine.spec.digest import Digest

NO_LABELS: Final[Mapping[str, str]] = MappingProxyType({})


Bytes = bytes | bytearray | memoryview


class Info(msgspec.Struct, frozen=True):
    """The metadata of a stored blob."""

    digest: Digest
    size: int
    created_at: float
    updated_at: float
    labels: Mapping[str, str]


class Status(msgspec.Struct, frozen=True):
    """The state of an ingest: `offset` bytes of `total` (0 if unknown) have been written.

    The last of them were written at `updated_at`.
    """

    ref: str
    offset: int
    total: int
    expected: Digest | None
    started_at: float
    updated_at: float


class Committed(msgspec.Struct, frozen=True):
    """The result of a commit; `added` is False if the store already had the blob."""

    info: Info
    added: bool


class ReaderAt(Protocol):
    """An open blob that any number of threads may read, even after the blob is deleted."""

    @property
    def size(self) -> int: ...

    def pread(self, length: int, offset: int) -> bytes:
        """Return up to `length` bytes from `offset`, the arguments in the order of `os.pread`.

        The result is shorter only at the end of the blob, and empty beyond it.
        """

    def fileno(self) -> int | None:
        """Return a descriptor of a regular file that holds exactly the blob; None if there is none.

        The reader owns the descriptor and closes it.
        """

    def close(self) -> None: ...

    def __enter__(self) -> Self: ...

    def __exit__(self, *_: object) -> None: ...


class Provider(Protocol):
    """A source of blobs."""

    def open(self, digest: str) -> ReaderAt:
        """Open a blob for reading; raise NotFound if it is absent."""

"""The protocols of a content store, and the values that they exchange.

A blob is immutable and named by its digest. It is written through an *ingest*, which is named by a
`ref` that its writer chooses, and becomes visible when the ingest is committed. The protocols
follow containerd's `core/content` and are small: code that only reads takes a `Provider`, code that
writes an `Ingester`, code that lists, labels or deletes blobs a `Manager`, and code that cleans up
after writers an `IngestManager`. `engine.stores.local` implements all of them on disk.

Times are in seconds since the epoch and sizes in bytes. Methods that take a digest as text raise
InvalidDigest if it is not a valid one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from types import MappingProxyType, TracebackType
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

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None: ...


class Provider(Protocol):
    """A source of blobs."""

    def open(self, digest: str) -> ReaderAt:
        """Open a blob for reading; raise NotFound if it is absent."""


class Writer(Protocol):
    """An ingest that is held for writing, by one thread at a time.

    After `commit`, `abort` or `close` only `digest`, `abort` and `close` may be called; any other
    method raises ValueError.
    """

    def write(self, data: Bytes) -> int:
        """Append all of `data` and return its length.

        After an error `status().offset` is the number of bytes that were written.
        """

    def pwrite(self, data: Bytes, offset: int) -> int:
        """Write all of `data` at an offset, over what is there, and return its length.

        Bytes between the end and a later offset read as zeros. The digest is computed anew when it
        is asked for, so append with `write` what comes in order.
        """

    def pread(self, length: int, offset: int) -> bytes:
        """Return written bytes, as `ReaderAt.pread` does."""

    def digest(self) -> Digest:
        """Return the digest of the bytes written so far."""

    def status(self) -> Status: ...

    def truncate(self, size: int) -> None:
        """Keep the first `size` bytes, which must have been written, and append after them."""

    def commit(
        self, size: int = 0, expected: str | None = None, labels: Mapping[str, str] = NO_LABELS
    ) -> Committed:
        """Turn the ingest into a durable blob with at least `labels`, and end the ingest.

        The size and digest given here and to `writer` must all match; a size of 0 is not checked.
        Success means that the content is stored, by this call or by an earlier one. Any error,
        SizeMismatch and DigestMismatch included, discards the ingest and leaves no blob visible.
        """

    def abort(self) -> None:
        """Discard the ingest; do nothing after `commit` or `close`."""

    def close(self) -> None:
        """Release the ingest; unless it is committed, `writer(ref)` resumes it after its end."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Call `close`."""


class Ingester(Protocol):
    """A destination of blobs."""

    def writer(
        self, ref: str, size: int = 0, expected: str | None = None, algorithm: str = "sha256"
    ) -> Writer:
        """Start the ingest `ref`, or resume it after its last byte.

        Raise Unavailable while another writer holds it; SizeMismatch or DigestMismatch if it was
        started for other content. The digest of the blob uses the algorithm of `expected`, if
        given, else `algorithm`.
        """


class Manager(Protocol):
    """The blobs of a store and their labels."""

    def info(self, digest: str) -> Info:
        """Return the metadata of a blob; raise NotFound if it is absent."""

    def update(self, digest: str, labels: Mapping[str, str]) -> Info:
        """Add or replace `labels`, remove those with an empty value, and return the result.

        Raise NotFound if the blob is absent.
        """

    def walk(self, wanted: Callable[[Info], bool] | None = None) -> Iterator[Info]:
        """Yield the blobs in the order of their digests.

        A blob that is added or deleted during the iteration may be missed or included.
        """

    def delete(self, digest: str) -> None:
        """Delete a blob, whether or not it is referenced; raise NotFound if it is absent."""


class IngestManager(Protocol):
    """The ingests of a store."""

    def status(self, ref: str) -> Status:
        """Return the state of an ingest; raise NotFound if there is none."""

    def statuses(self) -> list[Status]:
        """Return the state of every ingest, held or paused, in the order of their refs."""

    def abort(self, ref: str) -> None:
        """Discard a paused ingest.

        Raise NotFound if there is none; Unavailable while a writer holds it.
        """

"""The content store as everybody else sees it: values, protocols, and two small helpers.

A blob is immutable and named by its digest. It comes in through an *ingest*, known by a `ref` that
its writer chooses, and becomes visible when the ingest is committed. The protocols follow
containerd's `core/content`, each as small as its callers need: who reads takes a `Provider`, who
writes an `Ingester`, who lists, labels or deletes a `Manager`, who cleans up after writers an
`IngestManager`. `local.py` has the implementation on disk.

Times are seconds since the epoch, sizes are bytes. Digests are given as text and checked:
InvalidDigest for what is none.
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
    """A stored blob."""

    digest: Digest
    size: int
    created_at: float
    updated_at: float
    labels: Mapping[str, str]


class Status(msgspec.Struct, frozen=True):
    """An ingest: `offset` bytes are there of `total` (0: unknown), the last since `updated_at`."""

    ref: str
    offset: int
    total: int
    expected: Digest | None
    started_at: float
    updated_at: float


class Committed(msgspec.Struct, frozen=True):
    """The blob that a commit leaves in the store; `added` is False if it was there before."""

    info: Info
    added: bool


class ReaderAt(Protocol):
    """An open blob, for any number of threads; it stays readable when the blob is deleted."""

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
    def open(self, digest: str) -> ReaderAt:
        """Open the blob to read it. NotFound."""


class Writer(Protocol):
    """One held ingest, used by one thread at a time.

    After `commit`, `abort` or `close` only `digest`, `abort` and `close` still answer; the rest is
    a ValueError.
    """

    def write(self, data: Bytes) -> int:
        """Append all of `data`; its length. After an error `status().offset` says what went in."""

    def pread(self, length: int, offset: int) -> bytes:
        """What was written, as `ReaderAt.pread`."""

    def digest(self) -> Digest:
        """The digest of the bytes so far."""

    def status(self) -> Status: ...

    def truncate(self, size: int) -> None:
        """Keep the first `size` bytes, which must be there, and go on behind them."""

    def commit(
        self, size: int = 0, expected: str | None = None, labels: Mapping[str, str] = NO_LABELS
    ) -> Committed:
        """Make the ingest a durable blob that carries at least `labels`, and end the ingest.

        What was said at `writer(…)` and what is said here must both hold; a size of 0 says nothing.
        Success means that the content is stored, by this call or by an earlier one. SizeMismatch
        and DigestMismatch drop the ingest, as every other error does, and leave nothing visible.
        """

    def abort(self) -> None:
        """Throw the ingest away; nothing to do after `commit`, or after `close` let it go."""

    def close(self) -> None:
        """Let go of the ingest; if it is not committed, `writer(ref)` resumes behind its bytes."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """`close`."""


class Ingester(Protocol):
    def writer(
        self, ref: str, size: int = 0, expected: str | None = None, algorithm: str = "sha256"
    ) -> Writer:
        """Start the ingest `ref`, or resume it where it stopped.

        Unavailable while another writer holds it; SizeMismatch or DigestMismatch if it was started
        for something else. The blob is named by the algorithm of `expected`, else by `algorithm`.
        """


class Manager(Protocol):
    def info(self, digest: str) -> Info:
        """NotFound."""

    def update(self, digest: str, labels: Mapping[str, str]) -> Info:
        """Add or replace `labels`, where an empty value removes one; the result. NotFound."""

    def walk(self, wanted: Callable[[Info], bool] | None = None) -> Iterator[Info]:
        """The blobs in order of their digests; who comes or goes meanwhile may be seen or not."""

    def delete(self, digest: str) -> None:
        """Forget the blob. NotFound. Whether something refers to it is the caller's to know."""


class IngestManager(Protocol):
    def status(self, ref: str) -> Status:
        """NotFound."""

    def statuses(self) -> list[Status]:
        """Every ingest, held or paused, in order of their refs."""

    def abort(self, ref: str) -> None:
        """Throw away a paused ingest. NotFound; Unavailable while a writer holds it."""


class Store(Provider, Ingester, Manager, IngestManager, Protocol):
    """All of a content store."""

"""A content store as everything above it sees it: blobs by their digests."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, suppress
from typing import TYPE_CHECKING

from engine.content.protocols import Committed, Info, ReaderAt, Status
from engine.errors import NotFound
from engine.spec.digest import ALGORITHMS, parse

if TYPE_CHECKING:
    from engine.content.writer import Writer


class ContentStore(ABC):
    """A `Provider` whose blobs are written, listed, labelled and deleted.

    A store implements the abstract methods, and overrides others that it can do faster. Methods
    that take a digest raise InvalidDigest if it is not a valid one.
    """

    algorithms: frozenset[str] = frozenset(ALGORITHMS)
    """The algorithms of the digests that blobs can have."""

    # What a store implements

    @abstractmethod
    def _transaction(self) -> AbstractContextManager[object]:
        """As `Store.transaction`."""

    @abstractmethod
    def open(self, digest: str) -> ReaderAt:
        """Open a blob for reading; raise NotFound if it is absent."""

    @abstractmethod
    def info(self, digest: str) -> Info:
        """Return the metadata of a blob; raise NotFound if it is absent."""

    @abstractmethod
    def walk(self, wanted: Callable[[Info], bool] | None = None) -> Iterator[Info]:
        """Yield the blobs in the order of their digests.

        A blob that is added or deleted during the iteration may be missed or included.
        """

    @abstractmethod
    def update(self, digest: str, labels: Mapping[str, str]) -> Info:
        """Add or replace `labels`, remove those with an empty value, and return the result.

        Raise NotFound if the blob is absent.
        """

    @abstractmethod
    def delete(self, digest: str) -> None:
        """Delete a blob, whether or not it is referenced; raise NotFound if it is absent."""

    @abstractmethod
    def writer(
        self, ref: str, size: int = 0, expected: str | None = None, algorithm: str = "sha256"
    ) -> Writer:
        """Start the ingest `ref`, or resume it after its last byte.

        Raise Unavailable while another writer holds it; SizeMismatch or DigestMismatch if it was
        started for other content. The digest of the blob uses the algorithm of `expected`, if
        given, else `algorithm`.
        """

    @abstractmethod
    def unnamed_writer(
        self, size: int = 0, expected: str | None = None, algorithm: str = "sha256"
    ) -> Writer:
        """Start an ingest without a ref: it ends with its writer, and nobody resumes it."""

    @abstractmethod
    def statuses(self) -> list[Status]:
        """Return the state of every ingest, held or paused, in the order of their refs."""

    @abstractmethod
    def abort(self, ref: str) -> None:
        """Discard a paused ingest.

        Raise NotFound if there is none; Unavailable while a writer holds it.
        """

    @abstractmethod
    def _take(self, writers: Sequence[tuple[Writer, Mapping[str, str]]]) -> list[Committed]:
        """Turn verified ingests into blobs, in the transaction of `publish`."""

    # What follows from it

    def open_for_parts(self, digest: str) -> ReaderAt:
        """Open a blob of which only parts may be read: as `open`, but nothing is fetched ahead."""
        return self.open(digest)

    def exists(self, digest: str) -> bool:
        """Return whether the blob can be opened now."""
        return bool(self.sizes([parse(digest)]))

    def sizes(self, digests: Iterable[str]) -> Mapping[str, int]:
        """Return the sizes in bytes of those blobs that are stored."""
        found = {}
        for digest in digests:
            with suppress(NotFound):
                found[digest] = self.info(digest).size
        return found

    def labelled(self, key: str, value: str) -> list[Info]:
        """Return the blobs that have a label of that value, in order of their digests."""
        return list(self.walk(lambda info: info.labels.get(key) == value))

    def status(self, ref: str) -> Status:
        """Return the state of an ingest; raise NotFound if there is none."""
        for status in self.statuses():
            if status.ref == ref:
                return status
        raise NotFound("ingest", ref)

    def prepare(self, writers: Iterable[Writer]) -> None:
        """Verify ingests and make them durable: the slow part of `publish`, which needs no lock.

        Call it before a transaction in which `publish` is called. Raise SizeMismatch or
        DigestMismatch.
        """
        for writer in writers:
            writer.verify()

    def publish(self, writers: Sequence[tuple[Writer, Mapping[str, str]]]) -> list[Committed]:
        """Commit several ingests, each with its labels; return what became of each.

        This is one transaction, or part of the caller's, whose rollback removes the new blobs too.
        The ingests end in any case. Raise SizeMismatch or DigestMismatch.
        """
        try:
            self.prepare(writer for writer, _ in writers)
            with self._transaction():
                return self._take(writers)
        finally:
            for writer, _ in writers:
                writer.abort()


def merged(labels: Mapping[str, str], changes: Mapping[str, str]) -> dict[str, str]:
    """Return labels with those of `changes` added, and without those that have no value."""
    return {key: value for key, value in {**labels, **changes}.items() if value}

"""A content store as everything above it sees it: blobs by their digests."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, suppress

from engine.content.protocols import Committed, Info, ReaderAt, Status, Writer
from engine.content.writer import IngestWriter
from engine.errors import NotFound
from engine.spec.digest import parse


class ContentStore(ABC):
    """A `Provider`, `Ingester`, `Manager` and `IngestManager`, with what follows from these."""

    # What a store implements

    @abstractmethod
    def _transaction(self) -> AbstractContextManager[object]:
        """As `Store.transaction`."""

    @abstractmethod
    def open(self, digest: str) -> ReaderAt:
        """As `Provider.open`."""

    @abstractmethod
    def info(self, digest: str) -> Info:
        """As `Manager.info`."""

    @abstractmethod
    def walk(self, wanted: Callable[[Info], bool] | None = None) -> Iterator[Info]:
        """As `Manager.walk`."""

    @abstractmethod
    def update(self, digest: str, labels: Mapping[str, str]) -> Info:
        """As `Manager.update`."""

    @abstractmethod
    def delete(self, digest: str) -> None:
        """As `Manager.delete`."""

    @abstractmethod
    def writer(
        self, ref: str, size: int = 0, expected: str | None = None, algorithm: str = "sha256"
    ) -> Writer:
        """As `Ingester.writer`."""

    @abstractmethod
    def unnamed_writer(
        self, size: int = 0, expected: str | None = None, algorithm: str = "sha256"
    ) -> Writer:
        """Start an ingest without a ref: it ends with its writer, and nobody resumes it."""

    @abstractmethod
    def statuses(self) -> list[Status]:
        """As `IngestManager.statuses`."""

    @abstractmethod
    def abort(self, ref: str) -> None:
        """As `IngestManager.abort`."""

    @abstractmethod
    def _take(self, writers: Sequence[tuple[IngestWriter, Mapping[str, str]]]) -> list[Committed]:
        """Turn verified ingests into blobs, in the transaction of `publish`."""

    # What follows from it

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
        """As `IngestManager.status`."""
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
            own(writer).verify()

    def publish(self, writers: Sequence[tuple[Writer, Mapping[str, str]]]) -> list[Committed]:
        """Commit several ingests, each with its labels; return what became of each.

        This is one transaction, or part of the caller's, whose rollback removes the new blobs too.
        The ingests end in any case. Raise SizeMismatch or DigestMismatch.
        """
        try:
            self.prepare(writer for writer, _ in writers)
            with self._transaction():
                return self._take([(own(writer), labels) for writer, labels in writers])
        finally:
            for writer, _ in writers:
                writer.abort()


def own(writer: Writer) -> IngestWriter:
    """Return a writer that a store has made itself; raise TypeError for any other."""
    if not isinstance(writer, IngestWriter):
        raise TypeError(f"expected a writer of this store, found {type(writer).__name__}")
    return writer


def merged(labels: Mapping[str, str], changes: Mapping[str, str]) -> dict[str, str]:
    """Return labels with those of `changes` added, and without those that have no value."""
    return {key: value for key, value in {**labels, **changes}.items() if value}

"""A base for the writers of content stores: it hashes what is written, and checks it at the end.

A store derives its own from `Writer`, which leaves to it where the bytes are.
"""

from __future__ import annotations

import errno
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence

import msgspec
from msgspec.structs import replace

from engine.closing import Closing
from engine.content.protocols import NO_LABELS, Bytes, Committed, Status
from engine.content.running_hash import RunningHash
from engine.errors import DigestMismatch, SizeMismatch
from engine.limits import BUFFER_SIZE
from engine.spec.digest import Digest, parse


class Record(msgspec.Struct, frozen=True):
    """The properties of an ingest that are stated at its start."""

    ref: str
    total: int
    expected: Digest | None
    started_at: float

    def agreed(self, total: int, expected: Digest | None) -> Record:
        """Return the record with unstated values added; raise SizeMismatch or DigestMismatch on
        conflict.
        """
        if self.total and total and self.total != total:
            raise SizeMismatch(self.ref, self.total, total)
        if self.expected and expected and self.expected != expected:
            raise DigestMismatch(self.ref, self.expected, expected)
        return replace(self, total=self.total or total, expected=self.expected or expected)

    def status(self, offset: int, updated_at: float) -> Status:
        """Return the status of an ingest of `offset` bytes."""
        return Status(self.ref, offset, self.total, self.expected, self.started_at, updated_at)


class Writer(Closing, ABC):
    """An ingest that is held for writing, by one thread at a time.

    After `commit`, `abort` or `close` only `digest`, `abort` and `close` may be called; any other
    method raises ValueError. Without a commit, `ContentStore.writer` resumes the ingest after
    `close`.
    """

    def __init__(self, record: Record, algorithm: str, publish: Publish) -> None:
        """`algorithm` is that of the blob's digest, unless one is expected."""
        self.record = record
        self._algorithm = record.expected.algorithm if record.expected else algorithm
        self._publish = publish
        self._hash = RunningHash(self._algorithm)
        self._hash_is_stale = False
        self.is_open = True
        self.offset = 0

    # What a store implements

    @abstractmethod
    def status(self) -> Status:
        """Return the status as it is stored; raise ValueError after the end."""

    @abstractmethod
    def pread(self, length: int, offset: int) -> bytes:
        """Return written bytes; raise ValueError after the end."""

    @abstractmethod
    def _append(self, data: memoryview) -> int:
        """Append bytes, some at least, and return how many."""

    @abstractmethod
    def _overwrite(self, data: memoryview, offset: int) -> int:
        """Write bytes at an offset, some at least, and return how many; append after the last byte
        then.
        """

    @abstractmethod
    def _cut(self, size: int) -> None:
        """Keep the first `size` bytes."""

    @abstractmethod
    def _discard(self) -> None:
        """Remove the ingest, which is open."""

    def _release(self) -> None:
        """Release what holds the ingest open."""

    # What follows from it

    def write(self, data: Bytes) -> int:
        """Append all of `data` and return its length.

        After an error the bytes written are counted and hashed. Another thread hashes them, so
        `bytes` are kept for a moment, and other buffers copied.
        """
        self._check_open()
        if self._hash_is_stale:
            return self.pwrite(data, self.offset)
        length = memoryview(data).nbytes
        view = memoryview(data).cast("B") if length else memoryview(b"")
        written = 0
        try:
            while written < length:
                written += self._append(view[written:])
        finally:
            if written:
                self.offset += written
                self._hash_is_stale = True  # if an interrupt prevents the update
                self._hash.update(view[:written])
                self._hash_is_stale = False
        return length

    def pwrite(self, data: Bytes, offset: int) -> int:
        """Write all of `data` at an offset, over what is there, and return its length.

        Bytes between the end and a later offset read as zeros. The digest is computed anew when it
        is asked for, so append with `write` what comes in order.
        """
        self._check_open()
        self._hash_is_stale = True
        length = memoryview(data).nbytes
        view = memoryview(data).cast("B") if length else memoryview(b"")
        written = 0
        while written < length:
            written += self._overwrite(view[written:], offset + written)
            self.offset = max(self.offset, offset + written)
        return length

    def digest(self) -> Digest:
        """Return the digest of the bytes written so far."""
        if self._hash_is_stale:
            self._take_up(self.offset)
        return self._hash.digest()

    def truncate(self, size: int) -> None:
        """Keep the first `size` bytes, which must have been written, and append after them."""
        self._check_open()
        if not 0 <= size <= self.offset:
            raise ValueError(f"cannot keep {size} of {self.offset} bytes")
        self._cut(size)
        self._take_up(size)

    def verify(self) -> None:
        """Raise SizeMismatch or DigestMismatch if the bytes are not the expected ones."""
        ref, total, expected = self.record.ref, self.record.total, self.record.expected
        stored = self.status().offset
        if stored != self.offset:
            raise SizeMismatch(ref, self.offset, stored)
        if total and total != self.offset:
            raise SizeMismatch(ref, total, self.offset)
        if expected and expected != self.digest():
            raise DigestMismatch(ref, expected, self.digest())

    def commit(
        self, size: int = 0, expected: str | None = None, labels: Mapping[str, str] = NO_LABELS
    ) -> Committed:
        """Turn the ingest into a durable blob with at least `labels`, and end the ingest.

        The size and digest given here and to `ContentStore.writer` must all match; a size of 0 is
        not checked. Success means that the content is stored, by this call or by an earlier one.
        Any error, SizeMismatch and DigestMismatch included, discards the ingest and leaves no blob
        visible.
        """
        try:
            self._expect(size, parse(expected) if expected else None)
            return self._publish([(self, labels)])[0]
        finally:
            self.abort()

    def abort(self) -> None:
        """Discard the ingest; do nothing after `commit` or `close`."""
        if self.is_open:
            self._discard()
        self.close()

    def close(self) -> None:
        if self.is_open:
            self.is_open = False
            self._release()

    def _expect(self, size: int, expected: Digest | None) -> None:
        """Add expectations; a digest of another algorithm changes that of the blob's name."""
        if size and size != self.offset:
            raise SizeMismatch(self.record.ref, size, self.offset)
        self.record = self.record.agreed(size, expected)
        if expected and expected.algorithm != self._algorithm:
            self._algorithm = expected.algorithm
            self._take_up(self.offset)

    def _take_up(self, size: int) -> None:
        """Hash the first `size` bytes and continue after them."""
        self._hash = RunningHash(self._algorithm)
        self._hash_is_stale = False
        self.offset = 0
        while self.offset < size:
            data = self.pread(min(BUFFER_SIZE, size - self.offset), self.offset)
            if not data:
                raise OSError(errno.EIO, "the ingest has shrunk", self.record.ref)
            self._hash.update(memoryview(data))
            self.offset += len(data)

    def _check_open(self) -> None:
        if not self.is_open:
            raise ValueError(f"the ingest {self.record.ref} has ended")


Publish = Callable[[Sequence[tuple[Writer, Mapping[str, str]]]], list[Committed]]
"""`ContentStore.publish`"""

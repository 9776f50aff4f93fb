"""The directory `ingest/` of a store on disk, which holds the content being written.

    ingest/<id>/data    the bytes so far
    ingest/<id>/ref     JSON: ref, total, expected, started_at

`<id>` is the sha256 of the ref. An ingest consists of these files only. The holder of the flock on
`data` is its writer; an ingest whose lock nobody holds is paused, or its writer is dead. An ingest
without a ref has a random `<id>` and no file `ref`; it cannot be resumed, and is garbage when its
writer is dead. A plain file here is garbage too: a blob that is being deleted.

After a process takes a lock, it checks that the file is still the one named `data`. That file is
removed, or moved to become a blob, only under its lock, after `ref` and before the directory. An
ingest need not be durable until `sync`.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import json
import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Final

import msgspec
from msgspec.structs import replace

from engine.content.protocols import Bytes, Status
from engine.errors import (
    DigestMismatch,
    InvalidDigest,
    NotFound,
    SizeMismatch,
    Unavailable,
    printable,
)
from engine.spec.digest import Digest, from_hash, hasher, parse
from engine.stores.local.locks import is_locked
from engine.threads import run_concurrently

BLOB_MODE: Final = 0o444
_CHUNK: Final = 1 << 20
_EARLY: Final = 16 << 20
_DATA: Final = "data"
_REF: Final = "ref"


class Record(msgspec.Struct, frozen=True):
    """The properties of an ingest that are stated at its start and kept in its file `ref`."""

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


class Abandoned(msgspec.Struct, frozen=True):
    """A removable entry of `ingest/`: its name, its size in bytes, and the reason."""

    name: str
    size: int
    reason: str


class Ingest:
    """An ingest held by this object until it is moved, dropped or closed."""

    def __init__(
        self,
        directory: Path,
        descriptor: int,
        record: Record,
        algorithm: str,
        unnamed: set[Path] | None = None,
    ) -> None:
        """`unnamed` holds the directory until the ingest has ended."""
        self._directory = directory
        self._unnamed = set() if unnamed is None else unnamed
        self._open: int | None = descriptor
        self._pid = os.getpid()
        self._record = record
        self._algorithm = algorithm
        self._offset = 0
        self._begun = 0
        self._synced = False
        self._hash_is_stale = False
        self._hash: hashlib._Hash
        self._take_up(os.fstat(descriptor).st_size)

    @property
    def offset(self) -> int:
        """The number of bytes written."""
        return self._offset

    def write(self, data: Bytes) -> int:
        """Append all of `data`. After an error the bytes written are counted and hashed."""
        if self._hash_is_stale:
            return self.pwrite(data, self._offset)
        self._synced = False
        length = memoryview(data).nbytes
        view = memoryview(data).cast("B") if length else memoryview(b"")
        before = self._hash.copy()
        hashing = run_concurrently(self._hash.update, view)
        written = 0
        try:
            while written < length:
                written += os.write(self._descriptor, view[written:])
        finally:
            hashing()
            self._offset += written
            if written < length:
                before.update(view[:written])
                self._hash = before
        self._write_out_early()
        return length

    def pwrite(self, data: Bytes, offset: int) -> int:
        """Write at any offset; hash everything anew when the digest is wanted."""
        self._synced = False
        self._hash_is_stale = True
        view = memoryview(data).cast("B") if len(data) else memoryview(b"")
        written = 0
        try:
            while written < len(view):
                written += os.pwrite(self._descriptor, view[written:], offset + written)
        finally:
            self._offset = os.lseek(self._descriptor, 0, os.SEEK_END)
        return written

    def _write_out_early(self) -> None:
        """Make the kernel begin to write the data to disk, so that `sync` has little left to do."""
        size = self._offset - self._begun
        if size >= _EARLY:
            os.posix_fadvise(self._descriptor, self._begun, size, os.POSIX_FADV_DONTNEED)
            self._begun = self._offset

    def pread(self, length: int, offset: int) -> bytes:
        return os.pread(self._descriptor, length, offset)

    def digest(self) -> Digest:
        if self._hash_is_stale:
            self._take_up(self._offset)
        return from_hash(self._algorithm, self._hash)

    def status(self) -> Status:
        return _status(self._record, os.fstat(self._descriptor))

    def truncate(self, size: int) -> None:
        if not 0 <= size <= self._offset:
            raise ValueError(f"cannot keep {size} of {self._offset} bytes")
        self._synced = False
        os.ftruncate(self._descriptor, size)
        self._take_up(size)

    def expect(self, size: int, expected: Digest | None) -> None:
        """Add expectations; a digest of another algorithm changes that of the blob's name."""
        if size and size != self._offset:
            raise SizeMismatch(self._record.ref, size, self._offset)
        self._record = self._record.agreed(size, expected)
        if expected and expected.algorithm != self._algorithm:
            self._algorithm = expected.algorithm
            self._take_up(self._offset)

    def verify(self) -> None:
        """Raise SizeMismatch or DigestMismatch if the bytes are not the expected ones."""
        record = self._record
        on_disk = os.fstat(self._descriptor).st_size
        if on_disk != self._offset:
            raise SizeMismatch(record.ref, self._offset, on_disk)
        if record.total and record.total != self._offset:
            raise SizeMismatch(record.ref, record.total, self._offset)
        if record.expected and record.expected != self.digest():
            raise DigestMismatch(record.ref, record.expected, self.digest())

    def sync(self) -> None:
        """Make the bytes durable and the file read-only."""
        if not self._synced:
            os.fchmod(self._descriptor, BLOB_MODE)
            os.fsync(self._descriptor)
            self._synced = True

    def move(self, path: Path) -> None:
        """End the ingest by moving its synced data to `path`, replacing an existing file."""
        self.sync()
        (self._directory / _REF).unlink(missing_ok=True)
        (self._directory / _DATA).rename(path)
        _leave(self._directory)
        self._unnamed.discard(self._directory)
        self.close()

    def drop(self) -> None:
        """End the ingest and remove its files; do nothing if it has ended.

        Files that cannot be removed are left to garbage collection. The child of a fork leaves the
        ingest to its parent.
        """
        if self._open is not None and self._pid == os.getpid():
            _give_up(self._directory, self._open)
            self._open = None
            self._unnamed.discard(self._directory)
        self.close()

    def close(self) -> None:
        """Release the ingest, whose files stay."""
        if self._open is not None:
            os.close(self._open)
            self._open = None

    @property
    def _descriptor(self) -> int:
        if self._open is None:
            raise ValueError(f"the ingest {self._record.ref} has ended")
        if self._pid != os.getpid():
            raise Unavailable("ingest", self._record.ref)
        return self._open

    def _take_up(self, size: int) -> None:
        """Hash the first `size` bytes and continue after them."""
        self._hash = hasher(self._algorithm)
        self._hash_is_stale = False
        self._offset = size
        buffer = memoryview(bytearray(min(size, _CHUNK)))
        position = 0
        while position < size:
            read = os.preadv(self._descriptor, [buffer[: size - position]], position)
            if not read:
                raise OSError(errno.EIO, "the ingest has shrunk", str(self._directory))
            self._hash.update(buffer[:read])
            position += read
        os.lseek(self._descriptor, size, os.SEEK_SET)


class Ingests:
    """All ingests below the directory `root`. Safe from any thread and process."""

    def __init__(self, root: Path, clock: Callable[[], float]) -> None:
        self._root = root
        self._clock = clock
        self._pid = os.getpid()
        self._unnamed: set[Path] = set()
        """The directories of the unnamed ingests that this process has begun and not ended."""

    def close(self) -> None:
        """Remove the unnamed ingests that are left: a signal can interrupt the code that begins
        one before anything refers to it.
        """
        if self._pid == os.getpid():
            for directory in self._unnamed:
                with suppress(OSError):
                    _discard(directory)
            self._unnamed.clear()

    def hold(self, ref: str, total: int, expected: Digest | None, algorithm: str) -> Ingest:
        """Hold the ingest of a ref, as `Ingester.writer` does."""
        directory = self._directory(ref)
        descriptor = _lock(directory, ref)
        found = None
        try:
            found = _read_record(directory)
            record = (
                Record(ref, total, expected, self._clock())
                if found is None
                else found.agreed(total, expected)
            )
            if record != found:
                _write_record(directory, record)
            named_by = record.expected.algorithm if record.expected else algorithm
            return Ingest(directory, descriptor, record, named_by)
        except BaseException:
            if found is None:
                _give_up(directory, descriptor)
            else:
                os.close(descriptor)
            raise

    def hold_unnamed(self, total: int, expected: Digest | None, algorithm: str) -> Ingest:
        """Begin an ingest for this process alone, which cannot be found or resumed."""
        while True:
            directory = self._root / os.urandom(16).hex()
            self._unnamed.add(directory)
            # A concurrent `reclaim` may take it for a dead one before it is locked.
            with suppress(Unavailable):
                descriptor = _lock(directory, directory.name)
                record = Record("a new blob", total, expected, self._clock())
                named_by = expected.algorithm if expected else algorithm
                try:
                    return Ingest(directory, descriptor, record, named_by, self._unnamed)
                except BaseException:
                    _give_up(directory, descriptor)
                    raise

    def status(self, ref: str) -> Status:
        """Return the status of an ingest; raise NotFound."""
        status = _status_in(self._directory(ref))
        if status is None:
            raise NotFound("ingest", ref)
        return status

    def statuses(self) -> list[Status]:
        """Return the statuses of all ingests, sorted by ref."""
        found = (_status_in(directory) for directory in self._directories())
        return sorted((status for status in found if status), key=lambda status: status.ref)

    def abort(self, ref: str) -> None:
        """Remove a paused ingest; raise NotFound or Unavailable."""
        directory = self._directory(ref)
        if not directory.is_dir():
            raise NotFound("ingest", ref)
        _remove(directory, ref)

    def abandoned(self, idle: float) -> list[Abandoned]:
        """Return the ingests without a holder that cannot be resumed or are unchanged for `idle`
        seconds.
        """
        found = []
        for path in sorted(self._root.iterdir()):
            with suppress(FileNotFoundError):
                if not path.is_dir():
                    found.append(Abandoned(path.name, path.lstat().st_size, "is being deleted"))
                elif not is_locked(path / _DATA) and (why := self._why_abandoned(path, idle)):
                    found.append(Abandoned(path.name, _size(path / _DATA), why))
        return found

    def remove(self, name: str) -> bool:
        """Remove an abandoned entry unless a process holds it; return whether it was removed."""
        path = self._root / name
        try:
            if path.is_dir():
                _remove(path, name)
            else:
                path.unlink()
        except (Unavailable, FileNotFoundError):
            return False
        return True

    def _why_abandoned(self, directory: Path, idle: float) -> str:
        record = _read_record(directory)
        if record is None:
            return "its writer has ended and it cannot be resumed"
        # A time far in the future means that the clock was set back after the write.
        if abs(self._clock() - _last_change(directory)) >= idle:
            return f"nobody has resumed {printable(record.ref)} for {idle:g} s"
        return ""

    def discard(self, path: Path) -> Path:
        """Move a file here, where it is no longer a blob and can be removed slowly."""
        discarded = self._root / os.urandom(16).hex()
        path.rename(discarded)
        return discarded

    def _directories(self) -> list[Path]:
        return [path for path in self._root.iterdir() if path.is_dir()]

    def _directory(self, ref: str) -> Path:
        return self._root / hashlib.sha256(ref.encode("utf-8", "surrogatepass")).hexdigest()


def _lock(directory: Path, ref: str) -> int:
    """Return a locked descriptor of an ingest's data, created if necessary; raise Unavailable."""
    while True:
        is_new = False
        with suppress(FileExistsError):
            directory.mkdir(mode=0o700)
            is_new = True
        try:
            descriptor = _open_data(directory / _DATA)
        except FileNotFoundError:
            continue
        except OSError:
            _leave(directory)
            raise
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            current = _is_at(descriptor, directory / _DATA)
        except BlockingIOError:
            os.close(descriptor)
            raise Unavailable("ingest", ref) from None
        except OSError:
            if is_new:
                _give_up(directory, descriptor)
            else:
                os.close(descriptor)
            raise
        if current:
            return descriptor
        os.close(descriptor)


def _open_data(path: Path) -> int:
    flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
    try:
        return os.open(path, flags, 0o600)
    except PermissionError:
        # The writer died between `sync` and `move`.
        path.chmod(0o600)
        return os.open(path, flags, 0o600)


def _size(path: Path) -> int:
    try:
        return path.lstat().st_size
    except FileNotFoundError:
        return 0


def _is_at(descriptor: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), path.lstat())
    except FileNotFoundError:
        return False


def _remove(directory: Path, ref: str) -> None:
    descriptor = _lock(directory, ref)
    try:
        _discard(directory)
    finally:
        os.close(descriptor)


def _discard(directory: Path) -> None:
    (directory / _REF).unlink(missing_ok=True)
    (directory / _DATA).unlink(missing_ok=True)
    _leave(directory)


def _give_up(directory: Path, descriptor: int) -> None:
    with suppress(OSError):
        _discard(directory)
    os.close(descriptor)


def _leave(directory: Path) -> None:
    # The next writer of the ref may have created its own data there.
    with suppress(OSError):
        directory.rmdir()


def _last_change(directory: Path) -> float:
    try:
        return (directory / _DATA).lstat().st_mtime
    except FileNotFoundError:
        return directory.lstat().st_mtime


def _write_record(directory: Path, record: Record) -> None:
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC
    descriptor = os.open(directory / _REF, flags, 0o600)
    with open(descriptor, "w", encoding="ascii") as file:
        json.dump(msgspec.structs.asdict(record), file)


def _read_record(directory: Path) -> Record | None:
    """Return the record; None if it is absent or incomplete, since its writer died or is writing
    it.
    """
    try:
        fields = json.loads((directory / _REF).read_text("ascii"))
        expected = fields["expected"]
        return Record(
            str(fields["ref"]),
            int(fields["total"]),
            None if expected is None else parse(expected),
            float(fields["started_at"]),
        )
    except (FileNotFoundError, ValueError, LookupError, TypeError, AttributeError, InvalidDigest):
        return None


def _status_in(directory: Path) -> Status | None:
    record = _read_record(directory)
    if record is None:
        return None
    try:
        return _status(record, (directory / _DATA).lstat())
    except FileNotFoundError:
        return None


def _status(record: Record, data: os.stat_result) -> Status:
    return Status(
        record.ref, data.st_size, record.total, record.expected, record.started_at, data.st_mtime
    )

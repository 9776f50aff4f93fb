"""The directory `ingest/` of a store on disk, which holds the content being written.

Each ingest is a directory `<id>`, the sha256 of the ref, and consists of its files only
(`ingest_files.py`). An ingest whose lock nobody holds is paused, or its writer is dead. An ingest
without a ref has a random `<id>` and no file `ref`; it cannot be resumed, and is garbage when its
writer is dead. A plain file here is garbage too: a blob that is being deleted.

An ingest need not be durable until `LocalWriter.sync`.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import msgspec

from engine.content.protocols import Status
from engine.content.writer import Publish, Record
from engine.errors import NotFound, Unavailable, printable
from engine.spec.digest import Digest
from engine.stores.local import ingest_files
from engine.stores.local.writer import LocalWriter


class Abandoned(msgspec.Struct, frozen=True):
    """A removable entry of `ingest/`: its name, its size in bytes, and the reason."""

    name: str
    size: int
    reason: str


class Ingests:
    """All ingests below the directory `root`. Safe from any thread and process."""

    def __init__(self, root: Path, clock: Callable[[], float], publish: Publish) -> None:
        self._root = root
        self._clock = clock
        self._publish = publish
        self._pid = os.getpid()
        self._unnamed: set[Path] = set()
        """The directories of the unnamed ingests that this process has begun and not ended."""

    def close(self) -> None:
        """Remove the unnamed ingests that are left: a signal can interrupt the code that begins
        one before anything refers to it.
        """
        if self._pid == os.getpid():
            for directory in self._unnamed:
                ingest_files.try_to_remove(directory)
            self._unnamed.clear()

    def hold(self, ref: str, total: int, expected: Digest | None, algorithm: str) -> LocalWriter:
        """Hold the ingest of a ref, as `ContentStore.writer` does."""
        directory = self._directory(ref)
        descriptor = ingest_files.hold(directory, ref)
        found = None
        try:
            found = ingest_files.read_record(directory)
            record = (found or Record(ref, 0, None, self._clock())).agreed(total, expected)
            if record != found:
                ingest_files.write_record(directory, record)
            return self._writer(directory, descriptor, record, algorithm)
        except BaseException:
            if found is None:
                ingest_files.try_to_remove(directory)
            os.close(descriptor)
            raise

    def hold_unnamed(self, total: int, expected: Digest | None, algorithm: str) -> LocalWriter:
        """Begin an ingest for this process alone, which cannot be found or resumed."""
        while True:
            directory = self._root / os.urandom(16).hex()
            self._unnamed.add(directory)
            # A concurrent `reclaim` may take it for a dead one before it is locked.
            with suppress(Unavailable):
                descriptor = ingest_files.hold(directory, directory.name)
                record = Record("a new blob", total, expected, self._clock())
                try:
                    return self._writer(directory, descriptor, record, algorithm)
                except BaseException:
                    ingest_files.try_to_remove(directory)
                    os.close(descriptor)
                    raise

    def _writer(
        self, directory: Path, descriptor: int, record: Record, algorithm: str
    ) -> LocalWriter:
        return LocalWriter(directory, descriptor, record, algorithm, self._publish, self._unnamed)

    def statuses(self) -> list[Status]:
        """Return the statuses of all ingests, sorted by ref."""
        found = (ingest_files.status(path) for path in self._root.iterdir() if path.is_dir())
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
                elif not ingest_files.is_held(path) and (why := self._why_abandoned(path, idle)):
                    data = ingest_files.data_of(path)
                    found.append(Abandoned(path.name, data.st_size if data else 0, why))
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

    def discard(self, path: str) -> str:
        """Move a file here, where it is no longer a blob and can be removed slowly."""
        discarded = f"{self._root}/{os.urandom(16).hex()}"
        os.rename(path, discarded)
        return discarded

    def _why_abandoned(self, directory: Path, idle: float) -> str:
        record = ingest_files.read_record(directory)
        if record is None:
            return "its writer has ended and it cannot be resumed"
        changed = (ingest_files.data_of(directory) or directory.lstat()).st_mtime
        # A time far in the future means that the clock was set back after the write.
        if abs(self._clock() - changed) >= idle:
            return f"nobody has resumed {printable(record.ref)} for {idle:g} s"
        return ""

    def _directory(self, ref: str) -> Path:
        return self._root / hashlib.sha256(ref.encode("utf-8", "surrogatepass")).hexdigest()


def _remove(directory: Path, ref: str) -> None:
    descriptor = ingest_files.hold(directory, ref)
    try:
        ingest_files.remove(directory)
    finally:
        os.close(descriptor)

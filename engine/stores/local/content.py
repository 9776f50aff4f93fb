"""The content store on disk.

    STORE/blobs/<algorithm>/<hex>   complete, verified and read-only; named by the digest
    STORE/ingest/<id>/              being written (`ingests.py`)
    blobs, a table                  size, times and labels; the row makes the blob visible

A blob is added in this order: write to an ingest while hashing, verify size and digest, fsync,
rename into `blobs/`, fsync the directory, commit the row. It is removed in the reverse order:
commit the deletion of the row, then unlink the file. So after a crash at any moment every row has
its file, and a file without a row is garbage that `reclaim` removes.

Locking: the flock on the data of an ingest makes its holder the only process to write, move or
remove it. The database's write transaction is held while files are renamed into `blobs/` and their
rows are inserted, and while a file is unlinked because it has no row; so within a write transaction
the file of an existing row stays. A caller that finds a blob and needs it to stay takes a lease or
refers to it in the same transaction. Ingests are written, hashed and fsynced under their own lock
only. Readers hold no lock, since an open file remains readable after it is unlinked.

A `LocalContent` may be used by all threads of a process, and a store by any number of processes.
"""

from __future__ import annotations

import os
import sqlite3
import stat
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, suppress
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import msgspec
from msgspec.structs import replace

from engine.content.protocols import NO_LABELS, Committed, Info, Status
from engine.errors import ContentMismatch, InvalidDigest, NotFound, StoreError
from engine.spec.digest import ALGORITHMS, Digest, parse
from engine.stores.content import ContentStore, merged
from engine.stores.local.connection import check_types, damaged
from engine.stores.local.database import Database
from engine.stores.local.files import (
    LocalReader,
    make_directory,
    open_file,
    sync,
    sync_directory,
)
from engine.threads import run_all

if TYPE_CHECKING:
    from engine.content.writer import Writer
    from engine.stores.local.ingests import Ingests
    from engine.stores.local.writer import LocalWriter

_BATCH: Final = 500
_COLUMNS: Final = "digest, size, created_at, updated_at, labels"
_TYPES: Final = (str, int, float, float, str)


class LocalContent(ContentStore):
    """The content store below `root`, created if necessary, with methods for gc and fsck."""

    def __init__(
        self, root: Path, database: Database, clock: Callable[[], float] = time.time
    ) -> None:
        self._database = database
        self._clock = clock
        self._blobs = root / "blobs"
        make_directory(self._blobs)
        make_directory(root / "ingest")
        self._root = root

    @cached_property
    def ingests(self) -> Ingests:
        from engine.stores.local.ingests import Ingests  # deferred, since readers do not need it

        return Ingests(self._root / "ingest", self._clock, self.publish)

    def close(self) -> None:
        """Remove the unnamed ingests of this process that have not ended."""
        if "ingests" in self.__dict__:
            self.ingests.close()

    # Reading

    def open(self, digest: str) -> LocalReader:
        """Open a blob as `Provider.open` does; raise NotFound also if the file of a row is lost,
        ContentMismatch if something else is in its place.
        """
        path = self.path(parse(digest))
        if not self.sizes([digest]):
            raise NotFound("blob", digest)
        try:
            reader = open_file(path)
        except FileNotFoundError:
            raise NotFound("blob", digest) from None
        if not reader.is_regular:
            reader.close()
            raise ContentMismatch(f"blob {digest}", "a regular file", "something else")
        return reader

    def exists(self, digest: str) -> bool:
        """Return whether the blob can be read: its row and its file exist and agree in size."""
        name = parse(digest)
        size = self.sizes([name]).get(name)
        return size is not None and self._has_file(name, size)

    def sizes(self, digests: Iterable[str]) -> dict[str, int]:
        """Return the sizes in bytes of those blobs that have a row; files are not examined."""
        found: dict[str, int] = {}
        for batch in _batches(digests):
            marks = ",".join("?" * len(batch))
            found.update(
                self._database.read(
                    f"SELECT digest, size FROM blobs WHERE digest IN ({marks})", batch
                )
            )
        return found

    def info(self, digest: str) -> Info:
        found = self._find(parse(digest))
        if found is None:
            raise NotFound("blob", digest)
        return found

    def walk(self, wanted: Callable[[Info], bool] | None = None) -> Iterator[Info]:
        query = f"SELECT {_COLUMNS} FROM blobs WHERE digest > ? ORDER BY digest LIMIT ?"
        for rows in self._database.pages(query, _BATCH):
            for info in map(self._info, rows):
                if wanted is None or wanted(info):
                    yield info

    def labelled(self, key: str, value: str) -> list[Info]:
        rows = self._database.read(
            f"SELECT {_COLUMNS} FROM blobs, json_each(blobs.labels) AS label"
            " WHERE label.key = ? AND label.value = ? ORDER BY digest",
            (key, value),
        )
        return [self._info(row) for row in rows]

    # Writing

    def _transaction(self) -> AbstractContextManager[sqlite3.Connection]:
        return self._database.transaction()

    def writer(
        self, ref: str, size: int = 0, expected: str | None = None, algorithm: str = "sha256"
    ) -> LocalWriter:
        digest = parse(expected) if expected else None
        return self.ingests.hold(ref, size, digest, algorithm)

    def unnamed_writer(
        self, size: int = 0, expected: str | None = None, algorithm: str = "sha256"
    ) -> LocalWriter:
        digest = parse(expected) if expected else None
        return self.ingests.hold_unnamed(size, digest, algorithm)

    def prepare(self, writers: Iterable[Writer]) -> None:
        own = [_own(writer) for writer in writers]
        super().prepare(own)
        new = [writer for writer in own if not writer.synced and not self.exists(writer.digest())]
        run_all(lambda writer: writer.sync(), new)

    def _take(self, writers: Sequence[tuple[Writer, Mapping[str, str]]]) -> list[Committed]:
        added: list[Digest] = []
        self._database.after_transaction(lambda: self._tidy(added))
        committed = [self._add(_own(writer), labels, added) for writer, labels in writers]
        self._sync_directories(added)
        return committed

    def update(self, digest: str, labels: Mapping[str, str]) -> Info:
        with self._database.transaction() as connection:
            info = self.info(digest)
            changed = merged(info.labels, labels)
            if changed == info.labels:
                return info
            now = self._clock()
            connection.execute(
                "UPDATE blobs SET labels = ?, updated_at = ? WHERE digest = ?",
                (_dump(changed), now, info.digest),
            )
            return replace(info, labels=changed, updated_at=now)

    def delete(self, digest: str) -> None:
        """Delete a blob as `ContentStore.delete` does; its file is removed after the outermost
        transaction.
        """
        name = parse(digest)
        with self._database.transaction() as connection:
            if not connection.execute("DELETE FROM blobs WHERE digest = ?", (name,)).rowcount:
                raise NotFound("blob", digest)
            self._database.after_transaction(lambda: self._remove_deleted(name))

    # Ingests

    def statuses(self) -> list[Status]:
        return self.ingests.statuses()

    def abort(self, ref: str) -> None:
        self.ingests.abort(ref)

    # Files

    def files(self) -> Iterator[Digest]:
        """Yield the digests of all blob files, with a row or without, in sorted order."""
        for algorithm in sorted(ALGORITHMS):
            shelf = self._blobs / algorithm
            names = sorted(path.name for path in shelf.iterdir()) if shelf.is_dir() else []
            yield from filter(None, (_digest(algorithm, name) for name in names))

    def strays(self) -> Iterator[Path]:
        """Yield the paths below `blobs/` whose names are not those of blobs, in sorted order."""
        for shelf in sorted(self._blobs.iterdir()):
            is_shelf = shelf.name in ALGORITHMS and shelf.is_dir()
            if not is_shelf:
                yield shelf
            for path in sorted(shelf.iterdir()) if shelf.is_dir() else ():
                if not (is_shelf and _digest(shelf.name, path.name)):
                    yield path

    def adopt(self, digest: Digest) -> bool:
        """Add the row of a correct file, unless it has one; return False if the file is gone."""
        from engine.stores.local.writer import BLOB_MODE

        path = self.path(digest)
        try:
            path.chmod(BLOB_MODE)
            sync(path, os.O_RDONLY)
            self._sync_directories([digest])
            with self._database.transaction():
                if self._find(digest) is None:
                    self._insert(digest, path.lstat().st_size)
        except FileNotFoundError:
            return False
        return True

    def rowless(self) -> Iterator[tuple[Digest, int]]:
        """Yield the files without a row, with sizes: garbage, or blobs about to be published."""
        for batch in _batches(self.files()):
            known = self.sizes(batch)
            for digest in map(parse, batch):
                if digest not in known:
                    with suppress(FileNotFoundError):
                        yield digest, self.path(digest).lstat().st_size

    def reclaim(self, digests: Iterable[str]) -> list[Digest]:
        """Remove the files of those digests that have no row; return these digests.

        Raise as `discard` does.
        """
        removed: list[Digest] = []
        for batch in _batches(digests):
            moved = self.discard({*batch} - self.sizes(batch).keys())
            _unlink(moved.values())
            removed += map(parse, moved)
        return removed

    def discard(self, digests: Collection[str]) -> dict[str, str]:
        """Move the files of those digests that have no row out of `blobs/`, and return where to.

        The caller unlinks them, without the lock, since that may take long. Raise StoreError if
        the database is being rebuilt, RuntimeError inside a transaction.
        """
        from engine.stores.local import rebuild  # deferred, since readers do not need it

        if self._database.in_transaction:
            raise RuntimeError("a row may come back when the transaction is rolled back")
        if not digests:
            return {}
        with self._database.transaction():
            rebuild.check_finished(self._root)
            return self._moved(digests)

    def _moved(self, digests: Collection[str]) -> dict[str, str]:
        """Do the work of `discard`, in a transaction."""
        moved: dict[str, str] = {}
        for digest in sorted({*digests} - self.sizes(digests).keys()):
            with suppress(FileNotFoundError):
                moved[digest] = self.ingests.discard(self._file(parse(digest)))
        return moved

    def _remove_deleted(self, digest: Digest) -> None:
        """Remove the file of a blob whose row was deleted, also while the database is being
        rebuilt; gc retries if that fails.
        """
        with suppress(StoreError, OSError):
            with self._database.transaction():
                moved = self._moved([digest])
            _unlink(moved.values())

    def _tidy(self, digests: Iterable[Digest]) -> None:
        """Remove the files that a transaction left without a row; gc retries those that fail."""
        with suppress(StoreError, OSError):
            self.reclaim(digests)

    def _sync_directories(self, added: Sequence[Digest]) -> None:
        """Make new files durable by name; the creator of a directory may have died before that."""
        shelves = sorted({self.path(digest).parent for digest in added})
        run_all(sync_directory, [self._blobs, *shelves] if shelves else [])

    def _add(
        self, writer: LocalWriter, labels: Mapping[str, str], added: list[Digest]
    ) -> Committed:
        digest, size = writer.digest(), writer.offset
        found = self._find(digest)
        if found is not None and self._has_file(digest, found.size):
            writer.abort()
            return Committed(self.update(digest, labels), added=False)
        self._database.check_room()
        path = self.path(digest)
        path.parent.mkdir(mode=0o700, exist_ok=True)
        added.append(digest)
        writer.move(path)
        if found is not None:
            self._database.connection.execute("DELETE FROM blobs WHERE digest = ?", (digest,))
            labels = {**found.labels, **labels}
        return Committed(self._insert(digest, size, labels), added=True)

    def _insert(self, digest: Digest, size: int, labels: Mapping[str, str] = NO_LABELS) -> Info:
        now = self._clock()
        info = Info(digest, size, now, now, merged(NO_LABELS, labels))
        self._database.connection.execute(
            f"INSERT INTO blobs ({_COLUMNS}) VALUES (?, ?, ?, ?, ?)",
            (digest, size, now, now, _dump(info.labels)),
        )
        return info

    def _find(self, digest: Digest) -> Info | None:
        rows = self._database.read(f"SELECT {_COLUMNS} FROM blobs WHERE digest = ?", (digest,))
        return self._info(rows[0]) if rows else None

    def _info(self, row: tuple[Any, ...]) -> Info:
        """Return a row as a value; raise StoreDamaged."""
        digest, size, created_at, updated_at, labels = row
        try:
            check_types(row, _TYPES)
            known = msgspec.json.decode(labels, type=dict[str, str])
            return Info(parse(digest), size, created_at, updated_at, known)
        except (TypeError, msgspec.MsgspecError, InvalidDigest) as error:
            raise damaged(self._database.path, f"the row of blob {digest!r}") from error

    def _has_file(self, digest: Digest, size: int) -> bool:
        try:
            found = self.path(digest).lstat()
        except FileNotFoundError:
            return False
        return stat.S_ISREG(found.st_mode) and found.st_size == size

    def path(self, digest: Digest) -> Path:
        """Return the path of the file of a blob, whether it exists or not."""
        return Path(self._file(digest))

    def _file(self, digest: Digest) -> str:
        return f"{self._blobs}/{digest.algorithm}/{digest.encoded}"


def _own(writer: Writer) -> LocalWriter:
    """Return a writer of a local store; raise TypeError for any other."""
    from engine.stores.local.writer import LocalWriter

    if not isinstance(writer, LocalWriter):
        raise TypeError(f"expected a writer of this store, found {type(writer).__name__}")
    return writer


def _batches(digests: Iterable[str]) -> Iterator[list[str]]:
    remaining = iter(digests)
    while batch := list(islice(remaining, _BATCH)):
        yield batch


def _digest(algorithm: str, name: str) -> Digest | None:
    try:
        return parse(f"{algorithm}:{name}")
    except InvalidDigest:
        return None


def _unlink(paths: Iterable[str]) -> None:
    for path in paths:
        with suppress(FileNotFoundError):
            os.unlink(path)


def _dump(labels: Mapping[str, str]) -> str:
    import json

    return json.dumps(labels, sort_keys=True)

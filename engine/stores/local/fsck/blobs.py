"""Check of every blob against its digest and its row."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import closing, suppress
from itertools import islice
from threading import Lock
from typing import TYPE_CHECKING, Final

from engine.allocation import keep_freed_memory
from engine.content.protocols import Info, ReaderAt
from engine.errors import NotFound
from engine.hashing.threads import HashingThreads
from engine.hashing.updates import Hashing, Update, hash_now
from engine.limits import BUFFER_SIZE
from engine.progress import Done, Progress
from engine.spec import digest as digests
from engine.spec.digest import Digest
from engine.stores.local.files import open_file
from engine.stores.local.fsck.file_version import FileVersion, file_version
from engine.stores.local.fsck.problem import Kind, Problem, shown_name
from engine.stores.local.writer import BLOB_MODE

if TYPE_CHECKING:
    from engine.stores.local.store import LocalStore

_PAGE: Final = 256


class BlobCheck:
    """The check of every file below `blobs/`."""

    def __init__(self, store: LocalStore, progress: Progress) -> None:
        self._store = store
        self._progress = progress
        self._lock = Lock()
        self._hashed = 0
        # `sum` fails if damaged sizes exceed 64 bits, and `total` of other types may be infinite.
        ((total,),) = store.database.read(
            "SELECT total(size) FROM blobs WHERE typeof(size) = 'integer'"
        )
        self._total = int(total)

    def stored(self) -> Iterator[Problem]:
        """Yield the problems of blobs that have a row."""
        infos = self._store.content.walk()
        keep_freed_memory(4 * BUFFER_SIZE)
        with closing(HashingThreads(len(os.sched_getaffinity(0)))) as threads:
            while page := list(islice(infos, _PAGE)):
                # The largest one first, since the last ones keep one core busy at a time.
                by_size = sorted(page, key=_size, reverse=True)
                begun = {
                    info.digest: threads.submit(self._stored(info), info.size) for info in by_size
                }
                yield from filter(None, (begun[info.digest]() for info in page))

    def files(self) -> Iterator[Problem]:
        """Yield the problems of files that have no row."""
        content = self._store.content
        for digest, _ in content.rowless():
            if problem := self._rowless(digest):
                yield problem
        for path in content.strays():
            yield Problem(Kind.STRAY, str(path), "it is called like no blob")

    def _rowless(self, digest: Digest) -> Problem | None:
        path = self._store.content.path(digest)
        with self._store.database.transaction():
            if self._store.content.sizes([digest]):
                return None  # published in the meantime
            version = file_version(path)
            try:
                reader = open_file(path)
            except FileNotFoundError:
                return None  # removed in the meantime
            except OSError as error:
                text = f"cannot be opened: {error.strerror}"
                return Problem(Kind.BROKEN, digest, text, file=version)
        with reader:
            text = hash_now(self._mismatch(reader, digest))
        if text:
            return Problem(Kind.BROKEN, digest, text, file=version)
        text = "it has no row, so nothing can use it"
        return Problem(Kind.UNKNOWN, digest, text, file=version)

    def _stored(self, info: Info) -> Hashing[Problem | None]:
        problem = yield from self._look_at(info)
        if problem is None:
            return None
        content = self._store.content
        with self._store.database.transaction():
            if not content.sizes([info.digest]):
                return None  # collected in the meantime
            if file_version(content.path(info.digest)) != problem.file:
                return None  # loaded in the meantime
            return problem

    def _look_at(self, info: Info) -> Hashing[Problem | None]:
        # Taken before the file is opened: if it is replaced in between, no repair fits it.
        path = self._store.content.path(info.digest)
        version = file_version(path)
        try:
            reader = open_file(path)
        except FileNotFoundError:
            return self._problem(Kind.LOST, info, "its file is missing", version)
        except OSError as error:
            text = f"cannot be opened: {error.strerror}"
            return self._problem(Kind.DAMAGED, info, text, version)
        with reader:
            status = os.fstat(reader.fileno())
            if not stat.S_ISREG(status.st_mode):
                return self._problem(Kind.DAMAGED, info, "it is not a regular file", version)
            if reader.size != info.size:
                mismatch = yield from self._mismatch(reader, info.digest)
                kind = Kind.DAMAGED if mismatch else Kind.SIZE
                text = f"unexpected size: expected {info.size}, found {reader.size}"
                return self._problem(kind, info, text, version)
            if text := (yield from self._mismatch(reader, info.digest)):
                return self._problem(Kind.DAMAGED, info, text, version)
            if (mode := stat.S_IMODE(status.st_mode)) != BLOB_MODE:
                text = f"expected {BLOB_MODE:04o}, found {mode:04o}"
                return self._problem(Kind.MODE, info, text, version)
        return None

    def _mismatch(self, reader: ReaderAt, digest: Digest) -> Hashing[str]:
        """Return the difference of the bytes from the digest as text, "" if there is none."""
        hasher = digests.hasher(digest.algorithm)
        try:
            for offset in range(0, reader.size, BUFFER_SIZE):
                data = reader.pread(min(BUFFER_SIZE, reader.size - offset), offset)
                yield Update(hasher, memoryview(data))
                with self._lock:
                    self._hashed += len(data)
                    self._progress(Done(self._hashed, self._total))
        except OSError as error:
            return f"cannot be read: {error.strerror}"
        found = digests.from_hash(digest.algorithm, hasher)
        return "" if found == digest else f"unexpected digest: found {found}"

    def _problem(self, kind: Kind, info: Info, text: str, version: FileVersion | None) -> Problem:
        rows = self._store.database.read(
            "SELECT name FROM images WHERE digest = ? OR digest IN"
            " (SELECT target FROM members WHERE members.digest = ?) ORDER BY name",
            (info.digest, info.digest),
        )
        names = []
        for (name,) in rows:
            with suppress(NotFound):
                names.append(shown_name(self._store.images.get(name)))
        return Problem(kind, info.digest, text, tuple(names), file=version)


def _size(info: Info) -> int:
    return info.size

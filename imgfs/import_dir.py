"""`import/`, whose files are uploads.

What is listed can be read: only what tells why a file was not loaded. An upload answers by its name
as long as nothing is known to be wrong with it, and for as long as the mount lasts once it is
loaded.
"""

import errno
import itertools
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping
from pathlib import Path

import trio

from engine.archive.importer import Import
from imgfs.failures import SUFFIX, Failures, is_reserved
from imgfs.gather import Gathers
from imgfs.nodes import Attributes, Node
from imgfs.upload import Receipt, Status, Told, Upload, sentence
from imgfs.workers import Workers

_REPORTS_KEPT = 1000


class ImportDirectory:
    """Where an archive is dropped. Only the event loop touches it."""

    key = "import"

    def __init__(
        self,
        begin: Callable[[], Import],
        spool_directory: Path,
        nursery: trio.Nursery,
        workers: Workers,
        gathers: Gathers,
        failed: Callable[[str, str], Awaitable[None]],
    ) -> None:
        """`failed` is awaited with the name of a file that is closed and not loaded, and the
        reason.
        """
        self._begin = begin
        self._spool_directory = spool_directory
        self._nursery = nursery
        self._workers = workers
        self._gathers = gathers
        self._failed = failed
        self._failures = Failures()
        self._numbers = itertools.count(1)
        self._uploads: dict[str, Upload] = {}
        self._reports: dict[str, Upload | Told] = {}
        self._mtime = time.time_ns()

    def attributes(self) -> Attributes:
        return Attributes(0o040755, mtime=self._mtime, timeout=0)

    def xattrs(self) -> Mapping[str, bytes]:
        return {}

    def lookup(self, name: str) -> Node | None:
        return self._failures.lookup(name) or self._upload(name)

    def children(self) -> Iterable[tuple[str, Node]]:
        return self._failures.children()

    def keeps(self, child: Node) -> float:  # noqa: ARG002 (a `Directory`)
        return 0.0

    def waits(self, name: str | None) -> bool:  # noqa: ARG002 (a `Directory`)
        return False

    def version(self) -> None:
        """The kernel keeps no name."""

    def create(self, name: str, mode: int, uid: int, gid: int) -> Upload:
        """A new, empty file."""
        if is_reserved(name):
            raise OSError(errno.EPERM, f"a name that ends in {SUFFIX} tells of a failed load")
        if self._upload(name) is not None:
            raise OSError(errno.EEXIST, "there is a file of that name")
        upload = Upload(
            f"upload:{next(self._numbers)}",
            name,
            Receipt(mode & 0o7777, uid, gid, time.time_ns()),
            self._begin,
            self._spool_directory,
            self._nursery,
            self._workers,
            self._gathers,
            self,
        )
        self._put(name, upload)
        return upload

    def remove(self, name: str) -> None:
        """Remove a receipt, or what tells of a failure; what was loaded stays loaded."""
        if self._failures.lookup(name) is not None:
            self._failures.remove(name)
        elif self._upload(name) is not None:
            del self._uploads[name]
        else:
            raise OSError(errno.ENOENT, "no such file")
        self._mtime = time.time_ns()

    def rename(self, old: str, new: str) -> None:
        """Give a file another name, in the place of one that had it."""
        if is_reserved(new) or self._failures.lookup(old) is not None:
            raise OSError(errno.EPERM, f"a name that ends in {SUFFIX} tells of a failed load")
        upload = self._upload(old)
        if upload is None:
            raise OSError(errno.ENOENT, "no such file")
        del self._uploads[old]
        if upload.status is Status.LOADED:
            self._failures.end(new)
        self._reports.pop(old, None)
        upload.name = new
        self._put(new, upload)

    def report(self, name: str) -> bytes | None:
        """What became of a file, also after it was removed."""
        upload = self._reports.get(name)
        return upload.report() if upload else None

    def report_names(self) -> list[str]:
        return sorted(self._reports)

    def counts(self) -> dict[str, int]:
        """How many of the files are how far."""
        counts: dict[str, int] = {}
        for upload in self._reports.values():
            counts[upload.status.value] = counts.get(upload.status.value, 0) + 1
        return dict(sorted(counts.items()))

    async def flushed(self, upload: Upload) -> None:
        """As `Listener.flushed`."""
        if upload.result is not None:
            self._failures.end(upload.name)
        elif upload.error is not None:
            self._tell_failure(upload, upload.error)

    async def closed(self, upload: Upload) -> None:
        """As `Listener.closed`."""
        if upload.error is None:
            return
        self._tell_failure(upload, upload.error)
        if self._uploads.get(upload.name) is upload:
            del self._uploads[upload.name]
        await self._failed(upload.name, sentence(upload.error))

    async def abandon(self) -> None:
        """The mount ends: nothing half loaded stays behind."""
        for upload in [*self._uploads.values(), *self._reports.values()]:
            if isinstance(upload, Upload):
                await upload.abandon()

    def _upload(self, name: str) -> Upload | None:
        """The upload that answers by a name: one that has failed does not, though it may be open
        yet.
        """
        upload = self._uploads.get(name)
        return None if upload is None or upload.status is Status.FAILED else upload

    def _tell_failure(self, upload: Upload, error: Exception) -> None:
        self._mtime = time.time_ns()
        self._failures.tell(upload.name, sentence(error), error, self._mtime, upload.kept)

    def _put(self, name: str, upload: Upload) -> None:
        self._uploads[name] = upload
        self._reports.pop(name, None)
        self._reports[name] = upload
        while len(self._reports) > _REPORTS_KEPT:
            del self._reports[next(iter(self._reports))]
        self._shrink_reports()
        self._mtime = time.time_ns()

    def _shrink_reports(self) -> None:
        """Of files that are gone only what there is to tell stays."""
        for name, upload in self._reports.items():
            is_gone = self._uploads.get(name) is not upload
            if isinstance(upload, Upload) and is_gone and not upload.is_open:
                self._reports[name] = upload.told()

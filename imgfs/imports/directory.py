"""The directory `import/`, in which each file is an upload.

Only the reports about failures are listed, because uploads cannot be read. An upload can be looked
up by its name until it fails; once it is loaded, until the end of the mount.
"""

import errno
import itertools
import time
from collections.abc import Awaitable, Callable, Iterable
from pathlib import Path
from typing import ClassVar

import trio

from engine.archive.importer import Import
from imgfs.imports.archive_writer import ArchiveWriter
from imgfs.imports.failures import SUFFIX, Failures, is_reserved
from imgfs.imports.gather import Gather
from imgfs.imports.receipt import Receipt
from imgfs.imports.reports import Reported, Status, sentence
from imgfs.imports.upload import Upload
from imgfs.threads import DiskThreads
from imgfs.vfs.nodes import (
    AttributeChange,
    Attributes,
    Directory,
    Node,
    ReadOnlyDirectory,
    refusal_of,
)

_REPORTS_KEPT = 1000


class ImportDirectory(ReadOnlyDirectory):
    """The directory `import/`. Call it from the event loop only."""

    key = "import"
    refusal: ClassVar[int] = errno.EPERM

    def __init__(
        self,
        begin: Callable[[], Import],
        spool_directory: Path,
        nursery: trio.Nursery,
        workers: DiskThreads,
        make_gather: Callable[[], Gather],
        failed: Callable[[str, str], Awaitable[None]],
    ) -> None:
        """`begin` starts an import. `make_gather` returns a gather for as long as a file is open.
        `failed` is awaited with the name of each file that is closed without being loaded, and the
        reason.
        """
        self._begin = begin
        self._spool_directory = spool_directory
        self._nursery = nursery
        self._workers = workers
        self._make_gather = make_gather
        self._failed = failed
        self._failures = Failures()
        self._numbers = itertools.count(1)
        self._uploads: dict[str, Upload] = {}
        self._reports: dict[str, Reported] = {}
        self._mtime = time.time_ns()

    def attributes(self) -> Attributes:
        return Attributes(0o040755, mtime=self._mtime, timeout=0)

    async def set_attributes(self, _change: AttributeChange, /) -> None:
        """Ignore the change: copiers set the times of a directory that they copy into."""

    def lookup(self, name: str, /) -> Node | None:
        return self._failures.lookup(name) or self._upload(name)

    def children(self) -> Iterable[tuple[str, Node]]:
        return self._failures.children()

    def create(self, name: str, mode: int, uid: int, gid: int, /) -> Upload:
        """Make an empty upload; OSError (EPERM, EEXIST) if it cannot have this name."""
        if is_reserved(name):
            raise OSError(errno.EPERM, f"a name that ends in {SUFFIX} tells of a failed load")
        if self._upload(name) is not None:
            raise OSError(errno.EEXIST, "there is a file of that name")
        writer = ArchiveWriter(
            self._begin, self._spool_directory, self._nursery, self._workers, self._make_gather
        )
        receipt = Receipt(mode & 0o7777, uid, gid, time.time_ns())
        upload = Upload(f"upload:{next(self._numbers)}", name, receipt, writer, self)
        self._put(name, upload)
        return upload

    def unlink(self, name: str, _child: Node, /) -> None:
        """Remove a file or the report about a failure; loaded images stay."""
        if self._failures.lookup(name) is not None:
            self._failures.remove(name)
        elif self._upload(name) is not None:
            del self._uploads[name]
        else:
            raise OSError(errno.ENOENT, "no such file")
        self._mtime = time.time_ns()

    def rename(self, name: str, target: Directory, new_name: str, /) -> None:
        """Rename a file within this directory, and replace one of the same name."""
        if target is not self:
            raise refusal_of(self)
        if is_reserved(new_name) or self._failures.lookup(name) is not None:
            raise OSError(errno.EPERM, f"a name that ends in {SUFFIX} tells of a failed load")
        upload = self._upload(name)
        if upload is None:
            raise OSError(errno.ENOENT, "no such file")
        del self._uploads[name]
        if upload.status is Status.LOADED:
            self._failures.end(new_name)
        self._reports.pop(name, None)
        upload.name = new_name
        self._put(new_name, upload)

    def report(self, name: str) -> bytes | None:
        """Return the report about a file as JSON, even if the file was removed, or None."""
        reported = self._reports.get(name)
        return reported.report() if reported else None

    def report_names(self) -> list[str]:
        """Return the names of the files with a report, sorted."""
        return sorted(self._reports)

    def counts(self) -> dict[str, int]:
        """Return how many files have each status."""
        counts: dict[str, int] = {}
        for reported in self._reports.values():
            counts[reported.status.value] = counts.get(reported.status.value, 0) + 1
        return dict(sorted(counts.items()))

    async def flushed(self, upload: Upload) -> None:
        """Implement `Listener`: show or remove the report about a failure."""
        if upload.result is not None:
            self._failures.end(upload.name)
        elif upload.error is not None:
            self._add_failure(upload, upload.error)

    async def closed(self, upload: Upload) -> None:
        """Implement `Listener`: forget an upload that failed."""
        if upload.error is None:
            return
        self._add_failure(upload, upload.error)
        if self._uploads.get(upload.name) is upload:
            del self._uploads[upload.name]
        await self._failed(upload.name, sentence(upload.error))

    async def abandon(self) -> None:
        """Drop every import that is not finished, at the end of the mount."""
        reported: list[Reported] = [*self._uploads.values(), *self._reports.values()]
        for one in reported:
            await one.abandon()

    def _upload(self, name: str) -> Upload | None:
        """Return the upload with a name unless it has failed, even if it is still open."""
        upload = self._uploads.get(name)
        return None if upload is None or upload.status is Status.FAILED else upload

    def _add_failure(self, upload: Upload, error: Exception) -> None:
        self._mtime = time.time_ns()
        self._failures.add(upload.name, sentence(error), error, self._mtime, upload.kept)

    def _put(self, name: str, upload: Upload) -> None:
        self._uploads[name] = upload
        self._reports.pop(name, None)
        self._reports[name] = upload
        while len(self._reports) > _REPORTS_KEPT:
            del self._reports[next(iter(self._reports))]
        self._shrink_reports()
        self._mtime = time.time_ns()

    def _shrink_reports(self) -> None:
        """Replace uploads that are gone by their reports."""
        for name, reported in self._reports.items():
            if self._uploads.get(name) is not reported and not reported.is_open:
                self._reports[name] = reported.finished()

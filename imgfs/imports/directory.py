"""The directory `import/`, in which each file is an archive that is loaded, and each directory a
layout.

Directories and the reports about failures are listed. Files are not, because they cannot be read;
one can be looked up by its name until it fails, or once it is loaded until the end of the mount.
"""

import errno
import functools
import itertools
import os
import time
from collections.abc import Callable, Iterable
from typing import ClassVar, ParamSpec, TypeVar

import trio

from engine.archive.growing_layouts import is_hidden
from engine.errors import printable
from imgfs.imports import reports
from imgfs.imports.archive_writer import ArchiveWriter
from imgfs.imports.directory_upload import DirectoryUpload
from imgfs.imports.failures import SUFFIX, Failures, is_reserved
from imgfs.imports.file_names import check_length, cut_for
from imgfs.imports.receipt import Receipt
from imgfs.imports.reports import Reported, Status, names_of, sentence
from imgfs.imports.services import ImportServices
from imgfs.imports.upload import Upload
from imgfs.imports.uploaded_directory import UploadedDirectory
from imgfs.vfs.nodes import (
    AttributeChange,
    Attributes,
    Directory,
    Node,
    ReadOnlyDirectory,
)

P = ParamSpec("P")
T = TypeVar("T")

_REPORTS_KEPT = 1000
_EXPIRY_PERIOD = 60.0
"""Seconds between two looks for directories that have been left."""


def _in_event_loop(change: Callable[P, T]) -> Callable[P, T]:
    """Return a function for worker threads that calls `change` in the event loop."""

    @functools.wraps(change)
    def changed(*args: P.args, **kwargs: P.kwargs) -> T:
        return trio.from_thread.run_sync(functools.partial(change, *args, **kwargs))

    return changed


class ImportDirectory(ReadOnlyDirectory):
    """The directory `import/`. Call it from the event loop only. What changes names, but for
    `create`, is called in worker threads, and so is `lookup` where it may block.
    """

    key = "import"
    refusal: ClassVar[int] = errno.EPERM
    changes_block: ClassVar[bool] = True

    def __init__(self, services: ImportServices) -> None:
        self._services = services
        self._failures = Failures()
        self._numbers = itertools.count(1)
        self._uploads: dict[str, Upload] = {}
        self._directories: dict[str, DirectoryUpload] = {}
        self._reports: dict[str, Reported] = {}
        """The reports by the names that `_report_name` returns."""
        self._mtime = time.time_ns()

    def attributes(self) -> Attributes:
        return Attributes(0o040755, mtime=self._mtime, timeout=0)

    async def set_attributes(self, _change: AttributeChange, /) -> None:
        """Ignore the change: copiers set the times of a directory that they copy into."""

    def may_block(self, name: str | None, /) -> bool:
        directory = None if name is None else self._directories.get(name)
        return directory is not None and directory.is_complete

    def lookup(self, name: str, /) -> Node | None:
        self._drop_outdated(name)
        directory = self._directories.get(name)
        shown = directory.root if directory else None
        return self._failures.lookup(name) or self._upload(name) or shown

    def children(self) -> Iterable[tuple[str, Node]]:
        directories = [(name, one.root) for name, one in self._directories.items()]
        return sorted([*directories, *self._failures.children()], key=lambda child: child[0])

    def create(self, name: str, mode: int, uid: int, gid: int, /) -> Upload:
        """Make an empty upload; OSError (EPERM, EEXIST, ENAMETOOLONG) if it cannot have this
        name.
        """
        self._check_free(name)
        writer = ArchiveWriter(self._services)
        upload = Upload(self._new_key(), name, Receipt.new(mode, uid, gid), writer, self)
        self._uploads[name] = upload
        self._put_report(name, upload)
        return upload

    def mkdir(self, name: str, mode: int, uid: int, gid: int, /) -> UploadedDirectory:
        """Make an empty directory for a layout; OSError as for `create`."""
        self._drop_outdated(name)
        return self._mkdir(name, mode, uid, gid)

    @_in_event_loop
    def _mkdir(self, name: str, mode: int, uid: int, gid: int) -> UploadedDirectory:
        self._check_free(name)
        receipt = Receipt.new(mode, uid, gid)
        made = DirectoryUpload(name, receipt, self._services, self._new_key, self)
        self._directories[name] = made
        self._put_report(name, made)
        return made.root

    @_in_event_loop
    def rmdir(self, name: str, _child: Directory, /) -> None:
        """Remove a directory in which nothing is left; loaded images stay."""
        directory = self._directories.get(name)
        if directory is None or not directory.root.is_empty:
            raise OSError(errno.ENOTEMPTY, os.strerror(errno.ENOTEMPTY))
        self._drop(directory)

    @_in_event_loop
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
        """Rename a file or directory within this one, and replace one of the same name.

        Publish the images of a directory that is no longer hidden; raise what is wrong with them.
        """
        self._drop_outdated(name)
        self._drop_outdated(new_name)
        renamed = self._rename(name, target, new_name)
        if renamed is not None and is_hidden(name) and not is_hidden(new_name):
            renamed.publish(renamed.load.files())

    def report(self, name: str) -> bytes | None:
        """Return the report about a file as JSON, even if the file was removed, or None."""
        reported = self._reports.get(_report_name(name))
        return reported.report() if reported else None

    def report_names(self) -> list[str]:
        """Return the names of the files with a report, sorted; long ones are cut."""
        return sorted(self._reports)

    def counts(self) -> dict[str, int]:
        """Return how many files have each status."""
        counts: dict[str, int] = {}
        for reported in self._reports.values():
            counts[reported.status.value] = counts.get(reported.status.value, 0) + 1
        return dict(sorted(counts.items()))

    def loading(self) -> dict[str, dict[str, int]]:
        """Return the files and directories that are being written, with the bytes so far."""
        return {
            name: {"bytes": reported.received}
            for name, reported in sorted(self._reports.items())
            if reported.is_open and reported.status is Status.LOADING
        }

    async def flushed(self, upload: Upload) -> None:
        """Implement `upload.Listener`: show or remove the report about a failure."""
        if upload.result is not None:
            self._failures.end(upload.name)
        elif upload.error is not None:
            self._add_failure(upload, upload.error)

    async def closed(self, upload: Upload) -> None:
        """Implement `upload.Listener`: forget an upload that failed."""
        if upload.error is None:
            return
        if not upload.is_error_flushed:
            self._add_failure(upload, upload.error)
        if self._uploads.get(upload.name) is upload:
            del self._uploads[upload.name]
        await self._services.failed(upload.name, sentence(upload.error))

    def refused(self, upload: DirectoryUpload, path: str, error: Exception) -> None:
        """Show why a file of a directory, or an image that it completes, was not taken."""
        self._mtime = time.time_ns()
        reason = sentence(error)
        text = f"{printable(path)}: {reason}" if isinstance(error, OSError) else reason
        kept = names_of(upload.load.loaded)
        self._failures.add(upload.name, text, error, self._mtime, kept)
        self._services.nursery.start_soon(self._services.failed, upload.name, text)

    def completed(self, upload: DirectoryUpload) -> None:
        """Remove the report about a directory that has failed before."""
        self._failures.end(upload.name)

    async def abandon(self) -> None:
        """Drop every import that is not finished, at the end of the mount."""
        reported: list[Reported] = [
            *self._uploads.values(),
            *self._directories.values(),
            *self._reports.values(),
        ]
        for one in reported:
            await one.abandon()

    async def expire(self, age: float) -> None:
        """Drop unfinished directories in which nothing has changed for `age` seconds, until this
        is cancelled.
        """
        while True:
            await trio.sleep(min(age, _EXPIRY_PERIOD))
            for directory in list(self._directories.values()):
                if directory.status is not Status.LOADED and directory.idle >= age:
                    self._drop(directory)

    def _upload(self, name: str) -> Upload | None:
        """Return the upload with a name unless it has failed, even if it is still open."""
        upload = self._uploads.get(name)
        return None if upload is None or upload.status is Status.FAILED else upload

    def _drop_outdated(self, name: str) -> None:
        """Drop the directory with a name if its images have been removed since; in a worker thread,
        because the store is asked.
        """
        directory = self._directories.get(name)
        if directory is not None and directory.is_outdated():
            trio.from_thread.run_sync(self._drop_if_complete, directory)

    def _drop_if_complete(self, directory: DirectoryUpload) -> None:
        """Drop a directory unless it has gone meanwhile, or somebody goes on writing into it."""
        if self._directories.get(directory.name) is directory and directory.is_complete:
            self._drop(directory)

    def _check_free(self, name: str) -> None:
        check_length(name)
        if is_reserved(name):
            raise OSError(errno.EPERM, f"a name that ends in {SUFFIX} tells of a failed load")
        if self._upload(name) is not None or name in self._directories:
            raise OSError(errno.EEXIST, "there is a file of that name")

    @_in_event_loop
    def _rename(self, name: str, target: Directory, new_name: str) -> DirectoryUpload | None:
        """Rename a file or directory; return a directory."""
        if target is not self:
            raise OSError(errno.EXDEV, os.strerror(errno.EXDEV))
        check_length(new_name)
        if (directory := self._directories.get(name)) is not None:
            self._rename_directory(directory, new_name)
        else:
            self._rename_file(name, new_name)
        return directory

    def _rename_file(self, name: str, new_name: str) -> None:
        if is_reserved(new_name) or self._failures.lookup(name) is not None:
            raise OSError(errno.EPERM, f"a name that ends in {SUFFIX} tells of a failed load")
        upload = self._upload(name)
        if upload is None:
            raise OSError(errno.ENOENT, "no such file")
        del self._uploads[name]
        if upload.status is Status.LOADED:
            self._failures.end(new_name)
        self._reports.pop(_report_name(name), None)
        upload.name = new_name
        self._uploads[new_name] = upload
        self._put_report(new_name, upload)

    def _rename_directory(self, directory: DirectoryUpload, new_name: str) -> None:
        replaced = self._directories.get(new_name)
        if self._upload(new_name) is not None:
            raise OSError(errno.ENOTDIR, os.strerror(errno.ENOTDIR))
        if replaced is not None and not replaced.root.is_empty:
            raise OSError(errno.ENOTEMPTY, os.strerror(errno.ENOTEMPTY))
        if is_reserved(new_name):
            raise OSError(errno.EPERM, f"a name that ends in {SUFFIX} tells of a failed load")
        if replaced is not None:
            self._drop(replaced)
        del self._directories[directory.name]
        self._reports.pop(_report_name(directory.name), None)
        directory.name = new_name
        self._directories[new_name] = directory
        self._put_report(new_name, directory)

    def _drop(self, directory: DirectoryUpload) -> None:
        del self._directories[directory.name]
        name = _report_name(directory.name)
        if self._reports.get(name) is directory:
            self._reports[name] = directory.finished()
        directory.root.is_removed = True
        self._mtime = time.time_ns()
        self._services.nursery.start_soon(directory.abandon)

    def _new_key(self) -> str:
        return f"upload:{next(self._numbers)}"

    def _add_failure(self, upload: Upload, error: Exception) -> None:
        self._mtime = time.time_ns()
        self._failures.add(upload.name, sentence(error), error, self._mtime, upload.kept)

    def _put_report(self, name: str, reported: Reported) -> None:
        self._reports.pop(_report_name(name), None)
        self._reports[_report_name(name)] = reported
        while len(self._reports) > _REPORTS_KEPT:
            del self._reports[next(iter(self._reports))]
        self._shrink_reports()
        self._mtime = time.time_ns()

    def _shrink_reports(self) -> None:
        """Replace uploads that are gone by their reports."""
        for name, reported in self._reports.items():
            kept: tuple[Reported | None, ...] = (
                self._uploads.get(reported.name),
                self._directories.get(reported.name),
            )
            if reported not in kept and not reported.is_open:
                self._reports[name] = reported.finished()


def _report_name(name: str) -> str:
    """Return the name under which the report about a file is listed, but for its suffix."""
    return cut_for(reports.SUFFIX, name)

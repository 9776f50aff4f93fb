"""`import/`, whose files are uploads."""

import errno
import itertools
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

import trio

from engine.archive.importer import Import
from imgfs.gather import Gathers
from imgfs.nodes import Attributes, Node
from imgfs.upload import Receipt, Told, Upload
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
    ) -> None:
        self._begin = begin
        self._spool_directory = spool_directory
        self._nursery = nursery
        self._workers = workers
        self._gathers = gathers
        self._numbers = itertools.count(1)
        self._uploads: dict[str, Upload] = {}
        self._reports: dict[str, Upload | Told] = {}
        self._mtime = time.time_ns()

    def attributes(self) -> Attributes:
        return Attributes(0o040755, mtime=self._mtime, timeout=0)

    def xattrs(self) -> Mapping[str, bytes]:
        return {}

    def lookup(self, name: str) -> Node | None:
        return self._uploads.get(name)

    def children(self) -> Iterable[tuple[str, Node]]:
        return sorted(self._uploads.items())

    def keeps(self, child: Node) -> float:  # noqa: ARG002 (a `Directory`)
        return 0.0

    def waits(self, name: str | None) -> bool:  # noqa: ARG002 (a `Directory`)
        return False

    def version(self) -> None:
        """The kernel keeps no name."""

    def create(self, name: str, mode: int, uid: int, gid: int) -> Upload:
        """A new, empty file."""
        if name in self._uploads:
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
        )
        self._put(name, upload)
        return upload

    def remove(self, name: str) -> None:
        """Remove a receipt; what was loaded stays loaded."""
        upload = self._uploads.pop(name, None)
        if upload is None:
            raise OSError(errno.ENOENT, "no such file")
        self._mtime = time.time_ns()

    def rename(self, old: str, new: str) -> None:
        """Give a file another name, in the place of one that had it."""
        upload = self._uploads.pop(old, None)
        if upload is None:
            raise OSError(errno.ENOENT, "no such file")
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

    async def abandon(self) -> None:
        """The mount ends: nothing half loaded stays behind."""
        for upload in [*self._uploads.values(), *self._reports.values()]:
            if isinstance(upload, Upload):
                await upload.abandon()

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

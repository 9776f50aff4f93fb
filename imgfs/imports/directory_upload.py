"""An upload that is a directory of `import/`: what its files and directories share.

Call it from the event loop, except `is_outdated`, `settle`, `publish`, `refuse`, `blobs` and the
methods of its directories that change something, which run in worker threads.
"""

import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from threading import Lock
from typing import Protocol
from weakref import WeakValueDictionary

import trio

from engine.spec.digest import Digest, parse
from imgfs.imports.gather import Gather
from imgfs.imports.receipt import Receipt
from imgfs.imports.reports import FinishedReport, Status, names_of, render_directory, sentence
from imgfs.imports.services import ImportServices
from imgfs.imports.uploaded_directory import UploadedDirectory
from imgfs.imports.uploaded_file import UploadedFile


class Listener(Protocol):
    """An observer of uploads that are directories, called in the event loop."""

    def refused(self, upload: "DirectoryUpload", path: str, error: Exception) -> None:
        """Handle a file, or an image that it completes, which was not taken."""
        ...

    def completed(self, upload: "DirectoryUpload") -> None:
        """Handle the publication of all images that the upload is known to have."""
        ...


class DirectoryUpload:
    """One directory of `import/`, with everything below it."""

    def __init__(
        self,
        name: str,
        receipt: Receipt,
        services: ImportServices,
        new_key: Callable[[], str],
        listener: Listener,
    ) -> None:
        """`new_key` returns the key of a new node."""
        self._token = trio.lowlevel.current_trio_token()
        self.load = services.begin_directory(name)
        self.services = services
        self.new_key = new_key
        self.files: WeakValueDictionary[str, UploadedFile] = WeakValueDictionary()
        self.directories: WeakValueDictionary[str, UploadedDirectory] = WeakValueDictionary()
        self.root = UploadedDirectory(self, None, name, receipt)
        self.naming = Lock()
        """Held while a path is changed, in the load and here."""
        self._listener = listener
        self._refusal: tuple[str, Exception] | None = None
        self._open = 0
        self._changed_at = time.monotonic()
        self._is_complete = False

    @property
    def name(self) -> str:
        """The name of the directory."""
        return self.load.name

    @name.setter
    def name(self, name: str) -> None:
        self.load.name = self.root.name = name

    # -- state ------------------------------------------------------------------------------------

    @property
    def is_open(self) -> bool:
        """Whether a file of it is open for writing."""
        return self._open > 0

    @property
    def received(self) -> int:
        """The bytes of new blobs that are stored."""
        return self.load.loaded.new_bytes

    @property
    def error(self) -> Exception | None:
        """The last error, None if it has been resolved or there was none."""
        return self.load.error or (self._refusal[1] if self._refusal else None)

    @property
    def status(self) -> Status:
        if self.error is not None:
            return Status.FAILED
        if self.load.loaded.images and not self.load.missing:
            return Status.LOADED
        return Status.EMPTY if self.root.is_empty else Status.LOADING

    @property
    def idle(self) -> float:
        """Seconds since something in it was changed; 0 while a file is open."""
        return 0.0 if self._open else time.monotonic() - self._changed_at

    @property
    def is_complete(self) -> bool:
        """Whether all images that it is known to have are published, and no file is open."""
        return self._is_complete and not self._open

    def is_outdated(self) -> bool:
        """Return whether the images of a complete upload have been removed or replaced since, which
        the store is asked for.
        """
        return self.is_complete and not self.load.is_current()

    def xattrs(self) -> Mapping[str, bytes]:
        """Return the extended attributes that tell what became of the upload."""
        error, loaded = self.error, self.load.loaded
        status = f"{self.status}: {sentence(error)}" if error else str(self.status)
        xattrs = {"user.imgfs.status": status.encode(errors="replace")}
        if loaded.images:
            xattrs["user.imgfs.images"] = "\n".join(names_of(loaded)).encode()
        return xattrs

    # -- report -----------------------------------------------------------------------------------

    def report(self) -> bytes:
        return render_directory(
            self.name, self.status, self.error, self.load.loaded, self.load.missing
        )

    def finished(self) -> FinishedReport:
        return FinishedReport(self.name, self.status, self.report())

    async def abandon(self) -> None:
        """Drop what is not loaded."""
        await self.services.workers.write(self.load.close)

    # -- files and directories --------------------------------------------------------------------

    def opened(self) -> Gather:
        """Count one more file that is open for writing; return a gather for it."""
        self._open += 1
        return self.services.make_gather()

    def closed(self) -> None:
        """Count one open file less."""
        self._open -= 1
        self._changed_at = time.monotonic()

    def changed(self) -> None:
        """Note that something has been changed."""
        self._changed_at = time.monotonic()
        self._is_complete = False

    def removed(self) -> None:
        """Release what is held for an upload that is empty again."""
        if self.root.is_empty:
            self.load.close()
            self._refusal = None

    def refuse(self, path: str, error: Exception) -> None:
        """Report that a file, or an image that it completes, was not taken; from any thread."""
        if self._refusal != (path, error):
            self._refusal = (path, error)
            with suppress(trio.RunFinishedError):
                self._token.run_sync_soon(self._listener.refused, self, path, error)

    def settle(self, path: str, file: UploadedFile) -> None:
        """Move or remove what the load has taken at a path, as the file was meanwhile.

        Raise ContentMismatch if it has got the name of another blob.
        """
        with self.naming:
            if file.is_removed:
                self.load.remove(path)
            elif file.path != path:
                self.load.rename(path, file.path)

    def publish(self, files: Iterable[tuple[str, Digest | None]]) -> None:
        """Publish the images that files complete; raise what is wrong with one of them, once the
        others are published.
        """
        failure: Exception | None = None
        for path, digest in files:
            if self._refusal is not None and self._refusal[0] == path:
                self._refusal = None
            try:
                self.load.arrived(path, digest)
            except Exception as error:
                self.refuse(path, error)
                failure = failure or error
        self.changed()
        if failure is not None:
            raise failure
        self._is_complete = bool(self.load.loaded.images) and not self.load.missing
        if self._is_complete:
            self._refusal = None
            with suppress(trio.RunFinishedError):
                self._token.run_sync_soon(self._listener.completed, self)

    # -- blobs ------------------------------------------------------------------------------------

    def blobs(self, root: str, algorithm: str) -> Mapping[Digest, int]:
        """Return the stored blobs that the images of the layout at `root` refer to, by size."""
        wanted = [blob for blob in self.load.blobs(root) if blob.startswith(f"{algorithm}:")]
        return {parse(digest): size for digest, size in self.load.sizes(wanted).items()}

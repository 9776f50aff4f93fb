"""The bytes of an upload on their way into an import.

Call this from the event loop; the import runs in a worker thread, one call at a time. Between two
awaits, the first `_accepted` bytes have been passed on in order. The bytes after them may be in the
native library, and are taken from there before anything else is done. Bytes that arrive out of
order are kept in a spool file until the bytes before them arrive. `finish` fills the gaps that are
left with zeros, because a hole in a file reads as zeros.
"""

import errno
import logging
from collections.abc import Callable
from functools import partial
from typing import TypeVar

from engine.archive.importer import Import
from engine.archive.loaded import Loaded
from engine.errors import BrokenArchive
from imgfs.imports.gap_spool import GapSpool
from imgfs.imports.gather import Gather
from imgfs.imports.reports import Status, names_of, sentence
from imgfs.imports.serial_calls import SerialCalls
from imgfs.imports.services import ImportServices
from imgfs.imports.write_queue import WriteQueue

log = logging.getLogger(__name__)

T = TypeVar("T")

_ZEROS = bytes(1 << 20)
_AHEAD = 8 << 20
"""Bytes that may wait for the import."""


class ArchiveWriter:
    """Writes a file's bytes into imports, one after the other if the file is truncated.

    `size` is the size of the file in bytes. `result` is that of the last successful flush, `error`
    that of the last unsuccessful operation; a write clears both.
    """

    def __init__(self, services: ImportServices) -> None:
        self.size = 0
        self.result: Loaded | None = None
        self.error: Exception | None = None
        self.kept: tuple[str, ...] = ()
        """The images of the last successful flush, which stay loaded if what follows is wrong."""
        self._services = services
        self._calls = SerialCalls(services.nursery, services.workers)
        self._gather = Gather()
        self._import: Import | None = None
        self._spool: GapSpool | None = None
        self._lost: OSError | None = None
        self._accepted = 0
        self._queue: WriteQueue | None = None

    @property
    def status(self) -> Status:
        if self.error is not None:
            return Status.FAILED
        if self.result is not None:
            return Status.LOADED
        return Status.LOADING if self._accepted or self._spool else Status.EMPTY

    def has_bytes(self) -> bool:
        """Return whether bytes have arrived since the file was made, truncated or closed."""
        self.take_gathered()
        return self._import is not None or self._spool is not None or self._lost is not None

    def open(self) -> None:
        """Start to gather writes; call this when the file is opened first."""
        self._gather = self._services.make_gather()

    def handle(self, number: int) -> int:
        """Return the FUSE file handle of an open file with this number."""
        return self._gather.handle(number)

    def take_gathered(self) -> None:
        """Pass on the bytes that were gathered."""
        if data := self._gather.take():
            self._keep(data)
            self.size = max(self.size, self._accepted)

    async def write(self, offset: int, data: bytes) -> int:
        """Write bytes at an offset; return their number.

        Raise the archive's error as soon as it is known to be bad, and OSError (ESPIPE) for bytes
        that have already been passed on.
        """
        self.take_gathered()
        if self._lost is not None:
            raise self._lost
        if self._import is not None and self.error is not None and not self._may_recover():
            raise self.error
        if offset < self._accepted:
            raise OSError(
                errno.ESPIPE, "an archive is read as it arrives: bytes cannot be written twice"
            )
        self.result = None
        self.error = None
        if offset > self._accepted:
            await self._put_aside(offset, data)
        else:
            await self._accept(data)
            await self._accept_spooled()
        self.size = max(self.size, offset + len(data))
        if self._spool is None:
            self._gather.begin(self._accepted)
        return len(data)

    async def has_gaps(self) -> bool:
        """Return whether bytes that nobody has written yet may still belong to the archive."""
        self.take_gathered()
        if self._lost is not None or self._accepted >= self.size:
            return False
        await self._drained()
        return self._accepted < self.size and self._wants_more()

    async def finish(self) -> None:
        """Finish the import with the bytes so far, and set `result` or `error`."""
        if self._lost is not None:
            return
        while self._accepted < self.size and self._wants_more():
            await self._fill_hole()
        await self._drained()
        target = self._import
        if target is not None and (self.error is None or not target.failed):
            # the error may be an earlier flush's
            await self.run_in_thread(partial(self._finish, target))

    async def sync(self) -> None:
        """Wait until the import has taken all bytes; raise its error unless later bytes can still
        correct it.
        """
        await self._drained()
        if self.error is not None and not self._may_recover():
            raise self.error

    async def truncate(self, size: int) -> None:
        """Start anew if `size` is 0, or extend the file by a hole; otherwise raise OSError."""
        self.take_gathered()
        if size == 0 and self.size:
            await self.reset()
            self.size = 0
            self.result = None
            self.error = None
            self.kept = ()
        elif size < self._written:
            raise OSError(errno.EINVAL, "an archive is read as it arrives: it cannot be cut short")
        else:
            self.size = size

    async def close(self) -> None:
        """Drop what is not loaded, with an error; call this when the file is closed last."""
        self.take_gathered()
        self._gather.close()
        self._gather = Gather()
        if self.status is Status.EMPTY:
            self.error = nothing_written()
        elif self.status is Status.LOADING:
            self.error = BrokenArchive("", "is not complete: its writer was ended")
        await self.reset()

    async def reset(self) -> None:
        """Drop the import, and all bytes that it has not loaded; what is written meanwhile begins
        another one.
        """
        self.take_gathered()
        dropped, queue, spool = self._import, self._queue, self._spool
        self._queue = self._import = self._spool = self._lost = None
        self._accepted = 0
        if queue is not None:
            await queue.all_but(0)
        if dropped is not None:
            await self.run_in_thread(partial(_abort, dropped))
        if spool is not None:
            spool.close()
        if self.error is not None:  # its frames refer to the bytes read last
            self.error = self.error.with_traceback(None)
            self.error.__cause__ = self.error.__context__ = None

    async def is_open_elsewhere(self, path: str) -> bool:
        """Return whether a process can still write the file with this path in the mount."""
        return await self.run_in_thread(partial(self._services.is_open, path))

    async def run_in_thread(self, call: Callable[[], T]) -> T:
        """Run calls as `SerialCalls.run` does."""
        return await self._calls.run(call)

    @property
    def _written(self) -> int:
        """The end of the last byte that has arrived."""
        return max(self._accepted, self._spool.end if self._spool else 0)

    def _wants_more(self) -> bool:
        if self._import is None:
            return True
        is_ahead = self._spool is not None and self._spool.first is not None
        return not self._import.failed and (is_ahead or not self._import.ended)

    def _may_recover(self) -> bool:
        return self._import is not None and not self._import.failed

    async def _accept(self, data: bytes) -> None:
        self._keep(data)
        if self._queue is not None:
            await self._queue.all_but(_AHEAD)

    def _keep(self, data: bytes) -> None:
        if self._queue is None:
            self._import = self._services.begin()
            self._queue = WriteQueue(
                partial(self._consume, self._import), self.run_in_thread, self._services.nursery
            )
        self._queue.put(data)
        self._accepted += len(data)

    async def _accept_spooled(self) -> None:
        while self._spool is not None and (data := self._spool.take(self._accepted)):
            await self._accept(data)

    async def _put_aside(self, offset: int, data: bytes) -> None:
        try:
            if self._spool is None:
                self._spool = GapSpool(self._services.spool_directory)
            await self.run_in_thread(partial(self._spool.put, offset, data))
        except OSError as error:
            self.error = self._lost = error
            raise

    async def _fill_hole(self) -> None:
        spooled = self._spool.first if self._spool else None
        end = self.size if spooled is None else spooled
        await self._accept(_ZEROS[: end - self._accepted])
        await self._accept_spooled()

    async def _drained(self) -> None:
        """Wait until the import has taken all bytes."""
        self.take_gathered()
        if self._queue is not None:
            await self._queue.all_but(0)

    def _consume(self, target: Import, data: bytes) -> None:
        if target.failed:
            return
        try:
            target.feed(data)
        except Exception as error:  # raised by the next write or flush
            if target is self._import:
                self.error = error
            _abort(target)

    def _finish(self, target: Import) -> None:
        try:
            self.result = target.finish()
            self.error = None
            self.kept = names_of(self.result)
        except Exception as error:  # raised by the flush that called this
            self.error = error
            if target.failed:
                _abort(target)


def nothing_written() -> BrokenArchive:
    """Return the error for a file that is closed without a write."""
    return BrokenArchive(
        "", "is not an image archive: it is empty, nothing was written to the file"
    )


def _abort(target: Import) -> None:
    """Abort an import; what a broken disk does not release is left for garbage collection."""
    try:
        target.abort()
    except Exception as error:  # the writer is to see the first error
        log.warning("cannot drop a failed load: %s", sentence(error))

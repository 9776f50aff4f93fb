"""A file below a directory of `import/`. Call it from the event loop only.

Bytes that come in order wait in a queue, from which a worker thread writes them. Every other access
waits until the queue is empty, and takes the bytes of the native library before anything else.
"""

import errno
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, ClassVar

import trio

from engine.archive.directory_formats import DOCUMENTS
from engine.archive.file_writer import FileWriter
from engine.archive.members import blob_at
from engine.content.protocols import ReaderAt
from engine.errors import ContentMismatch
from engine.spec import digest as digests
from engine.spec.digest import Digest
from imgfs.imports.gather import Gather
from imgfs.imports.receipt import Receipt
from imgfs.imports.serial_calls import SerialCalls
from imgfs.imports.stored_blob import StoredBlobWriter
from imgfs.imports.uploaded_node import UploadedNode
from imgfs.imports.write_queue import WriteQueue
from imgfs.vfs.nodes import AttributeChange, Attributes, Reader

if TYPE_CHECKING:
    from imgfs.imports.uploaded_directory import UploadedDirectory

_AHEAD = 8 << 20
"""Bytes that may wait for the thread."""


class UploadedFile(UploadedNode):
    """One file, a `WritableFile`."""

    may_block: ClassVar[bool] = False
    may_change: ClassVar[bool] = True

    def __init__(self, parent: "UploadedDirectory", name: str, receipt: Receipt) -> None:
        upload = parent.upload
        super().__init__(upload, parent, name, receipt)
        upload.files[self.key] = self
        self.size = 0
        self._load = upload.load
        self._calls = SerialCalls(upload.services.nursery, upload.services.workers)
        self._queue: WriteQueue | None = None
        self._writer: FileWriter | StoredBlobWriter | None = None
        self._gather = Gather()
        self._handles = 0
        self._readers = 0
        self._kept: ReaderAt | None = None
        """The bytes of a file that was removed while somebody read it."""
        self._position = 0
        """The end of the bytes that were written last, where the queue continues."""
        self._consumed = 0
        """The end of the bytes that the thread has written last."""
        self._jump = trio.Lock()
        """Held while the queue is moved to another position."""
        self._error: Exception | None = None
        """Why bytes were lost."""

    @property
    def stored(self) -> Digest | None:
        """The digest if the file is a blob of the store, else None."""
        digest = self.digest
        return digest if digest is not None and self._is_stored_blob(digest) else None

    # -- node -------------------------------------------------------------------------------------

    def attributes(self) -> Attributes:
        self._take_gathered()
        return self.receipt.attributes(self.size)

    async def set_attributes(self, change: AttributeChange, /) -> None:
        if change.size is not None:
            await self.truncate(change.size)
            if not self._handles:
                try:
                    await self._calls.run(self._hand_over)
                finally:
                    await self._close_writer()
        self.receipt.change(change)

    def open(self) -> Reader:
        """Raise OSError (EOPNOTSUPP): the bytes may change, so they are read with `read`."""
        raise OSError(errno.EOPNOTSUPP, "an upload is not opened for reading alone")

    def writable(self) -> "UploadedFile":
        return self

    # -- open file --------------------------------------------------------------------------------

    def opened(self, number: int) -> int:
        if not self._handles:
            self._gather = self.upload.opened()
        self._handles += 1
        return self._gather.handle(number)

    def opened_for_reading(self) -> None:
        self._readers += 1

    def released_by_reader(self) -> None:
        self._readers -= 1
        if not self._readers and self._kept is not None:
            self._kept.close()
            self._kept = None

    def keep(self) -> None:
        if self._readers and self.digest is not None and self._kept is None:
            self._kept = self._load.open(self.digest)

    async def read(self, offset: int, size: int) -> bytes:
        await self._drained()
        return await self._calls.run(partial(self._read, offset, size))

    async def write(self, offset: int, data: bytes) -> int:
        """Write bytes at an offset; raise what an earlier write has failed with."""
        self._take_gathered()
        if self._error is not None:
            raise self._error
        self.is_refused = False
        if offset == self._position and self._writer is not None and not self._jump.locked():
            await self._enqueue(data).all_but(_AHEAD)
        else:
            async with self._jump:
                await self._drained()
                self._position = self._consumed = offset
                await self._enqueue(data).all_but(0)
        self.size = max(self.size, self._position)
        self._gather.begin(self._position)
        return len(data)

    async def truncate(self, size: int) -> None:
        async with self._jump:
            await self._drained()
            await self._calls.run(partial(self._truncate, size))
            self._position = self._consumed = size

    async def sync(self) -> None:
        await self._drained()
        if self._error is not None:
            raise self._error
        await self._calls.run(self._sync)

    async def flush(self) -> None:
        """Hand the file over to the load; raise what is wrong with it or with what it completes."""
        await self._drained()
        if self._error is not None:
            if not self.is_removed:
                self.upload.refuse(self.path, self._error)
            raise self._error
        await self._calls.run(self._flush)

    async def released(self) -> None:
        """Count one open file less; after the last one drop bytes that the load does not take.

        A file that is opened again meanwhile is left to the one who releases it next.
        """
        self._handles -= 1
        if self._handles:
            return
        self._take_gathered()
        self._gather.close()
        self._gather = unused = Gather()  # until the file is opened again
        try:
            await self._drained()
            if self._gather is unused:
                with suppress(Exception):  # it is recorded, and nobody waits for it
                    await self._calls.run(self._hand_over_rest)
            if self._gather is unused:
                await self._close_writer()
        finally:
            self.upload.closed()

    # -- in the worker thread ---------------------------------------------------------------------

    def _read(self, offset: int, size: int) -> bytes:
        writer, digest = self._writer, self.digest
        if self._kept is not None:
            return self._kept.pread(size, offset)
        if writer is not None and (digest is None or not self._is_taken(writer)):
            return writer.read(size, offset)
        if digest is None:
            return b""
        with self._load.open(digest) as reader:
            return reader.pread(size, offset)

    def _sync(self) -> None:
        if isinstance(self._writer, FileWriter) and self.digest is None:
            self._writer.sync()

    def _consume(self, data: bytes) -> None:
        if self._error is None:
            try:
                self._begin().write(data, self._consumed)
                self._consumed += len(data)
            except Exception as error:  # raised by the next call
                self._error = error

    def _truncate(self, size: int) -> None:
        is_stored = self.stored is not None
        if size == 0 and not is_stored:
            if self.digest is None and isinstance(self._writer, FileWriter):
                self._writer.abort()
            self._writer, self.digest, self._error = self._load.new_file(self.path), None, None
        else:
            self._begin().truncate(size)
        if not is_stored:
            self.size = size

    def _flush(self) -> None:
        """Hand the file over, but leave one without bytes to other descriptors that may write it: a
        shell closes a duplicate when it redirects output.
        """
        writer = self._writer
        is_empty = writer is None or (isinstance(writer, FileWriter) and not writer.size)
        path = f"import/{self.upload.name}/{self.path}"
        if not (is_empty and self.digest is None and self.upload.services.is_open(path)):
            self._hand_over()

    def _hand_over_rest(self) -> None:
        """Hand over what a flush has not, unless it is known to be wrong."""
        if self._error is None and not self.is_refused:
            self._hand_over()

    def _hand_over(self) -> None:
        """Let the load take bytes that are new, unless some are missing that come by another
        descriptor, and publish the images that they complete; raise what is wrong.
        """
        path = self.path
        if self.is_removed or self.digest is not None:
            return
        self.is_arriving = True
        try:
            digest = self.digest = self._put(path)
            if digest is not None:
                self.upload.settle(path, self)
        except Exception as error:
            if isinstance(error, ContentMismatch):
                self.is_refused = True
            else:  # the bytes are lost
                self._error = error
            if self.digest is not None:
                self._load.remove(path)
                self.digest = None
            self.upload.refuse(self.path, error)
            raise
        finally:
            self.is_arriving = False
        if digest is not None:
            self.upload.publish([(self.path, digest)])

    def _put(self, path: str) -> Digest | None:
        """Return the digest of what the load has taken at a path; None if it has not."""
        writer = self._writer or self._empty(path)
        if not isinstance(writer, FileWriter):
            return None
        try:
            digest = self._load.put(path, writer)
        except ContentMismatch:
            if writer.has_gaps:
                return None
            raise
        self._writer, self.is_refused = writer, False
        return digest

    def _empty(self, path: str) -> FileWriter | None:
        """Return a writer of no bytes for a path at which a file without bytes can be meant."""
        blob = blob_at(path)
        if blob is None:
            can_be = self.name not in DOCUMENTS
        else:
            can_be = blob == digests.of_bytes(b"", blob.algorithm)
        return self._load.new_file(path) if can_be else None

    def _begin(self) -> FileWriter | StoredBlobWriter:
        """Return the writer of newer bytes; the load gives back those that it has taken."""
        writer, digest = self._writer, self.digest
        if self.is_removed and digest is not None:  # removed, and its bytes with it
            writer = self._writer = digest = self.digest = None
        if digest is not None and self._is_stored_blob(digest):
            if not isinstance(writer, StoredBlobWriter):
                reader = self._load.open(digest)
                writer = self._writer = StoredBlobWriter(self.path, digest, reader)
            return writer
        if writer is None:
            path = self.path
            new = self._load.new_file(path) if digest is None else self._load.reopen(path, digest)
            writer = self._writer = new
        elif digest is not None and isinstance(writer, FileWriter):
            with self.upload.naming:
                writer = self._writer = self._load.take_back(self.path, writer)
        self.digest = None
        return writer

    # -- helpers ----------------------------------------------------------------------------------

    def _is_stored_blob(self, digest: Digest) -> bool:
        return self._load.is_stored_blob(self.path, digest)

    def _take_gathered(self) -> None:
        if data := self._gather.take():
            self._enqueue(data)
            self.size = max(self.size, self._position)

    def _enqueue(self, data: bytes) -> WriteQueue:
        if self._queue is None:  # not before, since a worker thread may have made this file
            nursery = self.upload.services.nursery
            self._queue = WriteQueue(self._consume, self._calls.run, nursery)
        self._queue.put(data)
        self._position += len(data)
        return self._queue

    @staticmethod
    def _is_taken(writer: FileWriter | StoredBlobWriter) -> bool:
        """Return whether the load has the bytes of a file that it has taken."""
        return isinstance(writer, FileWriter) and writer.ingest is not None

    async def _drained(self) -> None:
        self._take_gathered()
        if self._queue is not None:
            await self._queue.all_but(0)

    async def _close_writer(self) -> None:
        """Drop bytes that the load has not taken, and the file with them, unless the rest of them
        may still come, or somebody has opened the file meanwhile.
        """
        writer, digest = self._writer, self.digest
        has_gaps = isinstance(writer, FileWriter) and digest is None and writer.has_gaps
        if self._handles or (has_gaps and self._error is None and not self.is_removed):
            return
        self._writer = self._error = None
        if isinstance(writer, StoredBlobWriter):
            writer.close()
        elif writer is not None and digest is None:
            self.size = 0
            if not self.is_removed and self.parent is not None:
                self.parent.lose(self)
            await self._calls.run(writer.abort)

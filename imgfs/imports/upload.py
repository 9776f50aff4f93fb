"""A file in `import/`, whose writes go into an import. Call it from the event loop only."""

import errno
from collections.abc import Mapping
from typing import ClassVar, Protocol

from engine.archive.loaded import Loaded
from imgfs.imports.archive_writer import ArchiveWriter, nothing_written
from imgfs.imports.receipt import Receipt
from imgfs.imports.reports import FinishedReport, Status, names_of, render, sentence
from imgfs.vfs.nodes import AttributeChange, Attributes, Reader, ReadOnlyNode


class Listener(Protocol):
    """An observer of uploads."""

    async def flushed(self, upload: "Upload") -> None:
        """Handle the end of a flush, before its result is returned to the writer."""
        ...

    async def closed(self, upload: "Upload") -> None:
        """Handle the last close of an upload, which has an error unless it is loaded."""
        ...


class Upload(ReadOnlyNode):
    """One file of `import/`."""

    may_block: ClassVar[bool] = False

    def __init__(
        self, key: str, name: str, receipt: Receipt, writer: ArchiveWriter, listener: Listener
    ) -> None:
        """`name` is the file's name, which changes when it is renamed."""
        self.key = key
        self.name = name
        self._receipt = receipt
        self._writer = writer
        self._listener = listener
        self._handles = 0
        self._waits_for_gaps = False
        """Whether the last flush has left gaps to whoever has the file open."""
        self._flushed_error: Exception | None = None

    @property
    def status(self) -> Status:
        return self._writer.status

    @property
    def result(self) -> Loaded | None:
        """The loaded images, once a flush has loaded them."""
        return self._writer.result

    @property
    def error(self) -> Exception | None:
        """The reason why the file could not be loaded."""
        return self._writer.error

    @property
    def is_error_flushed(self) -> bool:
        """Whether a flush has reported the error to the listener."""
        return self._flushed_error is self.error

    @property
    def kept(self) -> tuple[str, ...]:
        """The images of the last successful flush, which stay loaded if what follows is wrong."""
        return self._writer.kept

    @property
    def is_open(self) -> bool:
        return self._handles > 0

    @property
    def received(self) -> int:
        self._writer.take_gathered()
        return self._writer.size

    # -- node -------------------------------------------------------------------------------------

    def attributes(self) -> Attributes:
        self._writer.take_gathered()
        return self._receipt.attributes(self._writer.size)

    async def set_attributes(self, change: AttributeChange, /) -> None:
        if change.size is not None:
            await self._writer.truncate(change.size)
        self._receipt.change(change)

    def xattrs(self) -> Mapping[str, bytes]:
        status = str(self.status)
        if self.error is not None:
            status += f": {sentence(self.error)}"
        xattrs = {**self._receipt.xattrs, "user.imgfs.status": status.encode(errors="replace")}
        if self.result is not None:
            xattrs["user.imgfs.images"] = "\n".join(names_of(self.result)).encode()
        return xattrs

    def set_xattr(self, name: str, value: bytes, /) -> None:
        self._receipt.set_xattr(name, value)

    def remove_xattr(self, name: str, /) -> None:
        self._receipt.remove_xattr(name)

    def open(self) -> Reader:
        """Raise OSError (EOPNOTSUPP): the bytes are not kept."""
        raise OSError(errno.EOPNOTSUPP, "an upload cannot be read")

    def writable(self) -> "Upload":
        return self

    # -- report -----------------------------------------------------------------------------------

    def report(self) -> bytes:
        received = self.received
        return render(self.name, self.status, received, self.error, self.result, self.kept)

    def finished(self) -> FinishedReport:
        report = self.report()
        return FinishedReport(self.name, self.status, report)

    # -- open file --------------------------------------------------------------------------------

    def opened(self, number: int) -> int:
        if not self._handles:
            self._writer.open()
        self._handles += 1
        return self._writer.handle(number)

    def opened_for_reading(self) -> None:
        """Do nothing: the bytes are not kept."""

    def released_by_reader(self) -> None:
        """Do nothing, as `opened_for_reading`."""

    async def read(self, _offset: int, _size: int) -> bytes:
        """Raise OSError (EOPNOTSUPP): the bytes are not kept."""
        raise OSError(errno.EOPNOTSUPP, "an upload cannot be read")

    async def write(self, offset: int, data: bytes) -> int:
        """Write bytes at any offset that has not been passed on yet; see `ArchiveWriter.write`."""
        self._waits_for_gaps = False
        return await self._writer.write(offset, data)

    async def flush(self) -> None:
        """Load the archive if it is complete; otherwise raise its error.

        A flush without a write, or with a gap in the archive, succeeds as long as a process has
        the file open: a shell closes a duplicate descriptor when it redirects output.
        """
        if self._writer.has_bytes():
            self._waits_for_gaps = await self._writer.has_gaps() and await self._has_writer()
            if self._waits_for_gaps:
                return
            await self._finish()
            if self.error is not None:
                raise self.error
        elif self.status is Status.EMPTY and not self._writer.size and not await self._has_writer():
            raise nothing_written()

    async def sync(self) -> None:
        await self._writer.sync()

    async def truncate(self, size: int) -> None:
        await self._writer.truncate(size)

    async def released(self) -> None:
        """Count one open file less. After the last one only the attributes and the result stay,
        unless the file is opened again meanwhile.
        """
        self._handles -= 1
        if not self._handles and self._waits_for_gaps:
            self._waits_for_gaps = False
            await self._finish()  # a file elsewhere was taken for this one
        if not self._handles:
            await self._writer.close()
        if not self._handles:
            await self._listener.closed(self)

    async def abandon(self) -> None:
        """Drop what is not loaded, at the end of the mount."""
        await self._writer.reset()

    async def _finish(self) -> None:
        await self._writer.finish()
        await self._listener.flushed(self)
        self._flushed_error = self.error

    async def _has_writer(self) -> bool:
        """Return whether a process can still write the file, after the close that is handled."""
        return await self._writer.is_open_elsewhere(f"import/{self.name}")

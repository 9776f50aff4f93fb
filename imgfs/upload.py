"""An archive on its way in through `import/`: from its first write to its receipt.

The event loop calls this; the engine's part runs in a worker thread, one call at a time. What holds
between two awaits: `_accepted` bytes from the start have been handed on, in order; what follows
them may be gathered by the part in C, and is taken before anything else is done. What came out of
order lies in a spool file until the bytes before it arrive, or, at a flush, count as the zeros that
a hole reads as.
"""

import errno
import json
import logging
from collections.abc import Callable, Mapping
from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import msgspec
import trio

from engine import go_json
from engine.archive.importer import Import, Loaded
from engine.errors import BrokenArchive
from imgfs.feed import Feed
from imgfs.gather import Gather, Gathers
from imgfs.nodes import Attributes
from imgfs.open_files import is_open
from imgfs.spool import Spool
from imgfs.workers import Workers

log = logging.getLogger(__name__)

_ZEROS = bytes(1 << 20)
_AHEAD = 8 << 20
"""Bytes that may wait for the import."""
_TOLD = 64 << 10
_OURS = "user.imgfs."
_MAX_XATTRS = 64 << 10


class Status(StrEnum):
    """How far an upload is."""

    EMPTY = "empty"
    LOADING = "loading"
    LOADED = "loaded"
    FAILED = "failed"


class Receipt(msgspec.Struct):
    """What stat and getfattr show of an uploaded file but for what became of it; times in
    nanoseconds.
    """

    mode: int
    uid: int
    gid: int
    mtime: int
    size: int = 0
    xattrs: dict[str, bytes] = {}


def _escaped(text: str) -> str:
    """JSON that a terminal can show: what is no plain character is written as an escape."""
    return "".join(c if c.isprintable() or c == "\n" else json.dumps(c)[1:-1] for c in text)


def sentence(error: Exception) -> str:
    """What went wrong, in words."""
    return error.strerror or str(error) if isinstance(error, OSError) else str(error)


def _names(loaded: Loaded) -> tuple[str, ...]:
    """Return the names of the images of a load, the digests of those without one."""
    return tuple(name for image in loaded.images for name in image.names or (image.target,))


def _abort(target: Import) -> None:
    """Drop what has come; what a broken disk does not let go of is left for the collector."""
    try:
        target.abort()
    except Exception as error:  # the writer is told what came before it
        log.warning("cannot drop a failed load: %s", sentence(error))


def _nothing_written() -> BrokenArchive:
    return BrokenArchive(
        "", "is not an image archive: it is empty, nothing was written to the file"
    )


class Told(msgspec.Struct, frozen=True):
    """What became of a file that is gone: its report, and no more of it."""

    status: Status
    data: bytes

    def report(self) -> bytes:
        """As `Upload.report`."""
        return self.data


class Listener(Protocol):
    """Who hears what becomes of an upload."""

    async def flushed(self, upload: "Upload") -> None:
        """All that has come so far is loaded, or is wrong; the writer hears of it next."""
        ...

    async def closed(self, upload: "Upload") -> None:
        """The last handle is closed; an upload that is not loaded has its error."""
        ...


class Upload:
    """One file of `import/`."""

    def __init__(
        self,
        key: str,
        name: str,
        receipt: Receipt,
        begin: Callable[[], Import],
        spool_directory: Path,
        nursery: trio.Nursery,
        workers: Workers,
        gathers: Gathers,
        listener: Listener,
    ) -> None:
        """`begin` makes an import."""
        self.key = key
        self.name = name
        self.receipt = receipt
        self.result: Loaded | None = None
        self.error: Exception | None = None
        self.kept: tuple[str, ...] = ()
        """The images that a flush has told as loaded; they stay when what comes later is wrong."""
        self._begin = begin
        self._spool_directory = spool_directory
        self._nursery = nursery
        self._workers = workers
        self._gathers = gathers
        self._gather = Gather()
        self._listener = listener
        self._import: Import | None = None
        self._spool: Spool | None = None
        self._lost: OSError | None = None
        self._accepted = 0
        self._feed: Feed | None = None
        self._engine_lock = trio.Lock()
        self._handles = 0

    # -- as a node --------------------------------------------------------------------------------

    def attributes(self) -> Attributes:
        self._take_gathered()
        r = self.receipt
        return Attributes(
            0o100000 | r.mode, r.size, r.mtime, uid=r.uid, gid=r.gid, block_size=1 << 20, timeout=0
        )

    def xattrs(self) -> Mapping[str, bytes]:
        told = {**self.receipt.xattrs, "user.imgfs.status": self.status.value.encode()}
        if self.error is not None:
            told["user.imgfs.status"] = f"{self.status}: {sentence(self.error)}".encode(
                errors="replace"
            )
        if self.result is not None:
            told["user.imgfs.images"] = "\n".join(_names(self.result)).encode()
        return told

    def set_xattr(self, name: str, value: bytes) -> None:
        """Keep what a copier takes over from its source; OSError for what is not a user's."""
        if not name.startswith("user."):
            raise OSError(errno.EOPNOTSUPP, "only the user's attributes are kept")
        if name.startswith(_OURS):
            raise OSError(errno.EPERM, "that attribute tells what became of the file")
        kept = sum(len(n) + len(v) for n, v in self.receipt.xattrs.items() if n != name)
        if kept + len(name) + len(value) > _MAX_XATTRS:
            raise OSError(errno.ENOSPC, "too many attributes")
        self.receipt.xattrs[name] = value

    def remove_xattr(self, name: str) -> None:
        """Drop an attribute; a copier that wants ours gone is heard and not obeyed."""
        if self.receipt.xattrs.pop(name, None) is None and not name.startswith(_OURS):
            raise OSError(errno.ENODATA, "no such attribute")

    @property
    def status(self) -> Status:
        if self.error is not None:
            return Status.FAILED
        if self.result is not None:
            return Status.LOADED
        return Status.LOADING if self._accepted or self._spool else Status.EMPTY

    def report(self) -> bytes:
        """What `.imgfs/imports/<file>.json` holds."""
        self._take_gathered()
        document: dict[str, Any] = {
            "file": self.name,
            "status": self.status.value,
            "bytes": self.receipt.size,
        }
        if self.error is not None:
            document["error"] = sentence(self.error)
            if self.kept:
                document["kept"] = list(self.kept)
            for part in ("member", "subject", "expected", "found"):
                if hasattr(self.error, part):
                    document[part] = str(getattr(self.error, part))[:_TOLD]
        if self.result is not None:
            document["images"] = [
                {
                    "names": list(i.names),
                    "digest": i.target,
                    "id": i.id,
                    "platforms": list(i.platforms),
                    "missing": list(i.missing),
                    "missing_platforms": list(i.missing_platforms),
                }
                for i in self.result.images
            ]
            document["left_out"] = [
                {"name": one.name, "reason": one.reason} for one in self.result.left_out
            ]
            document["new_blobs"] = self.result.new_blobs
            document["new_bytes"] = self.result.new_bytes
        return _escaped(go_json.dumps_indented(document).decode()).encode() + b"\n"

    # -- as a file being written ------------------------------------------------------------------

    @property
    def is_open(self) -> bool:
        return self._handles > 0

    def told(self) -> Told:
        """What there is to tell of it."""
        return Told(self.status, self.report())

    def opened(self, number: int) -> int:
        """One more file handle is open for writing: the kernel's number for it, by ours."""
        if not self._handles:
            self._gather = self._gathers.make()
        self._handles += 1
        return self._gather.handle(number)

    async def write(self, offset: int, data: bytes) -> int:
        """Take bytes at any offset; fails as soon as the archive is known to be bad."""
        self._take_gathered()
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
        self.receipt.size = max(self.receipt.size, offset + len(data))
        if self._spool is None:
            self._gather.begin(self._accepted)
        return len(data)

    async def flush(self) -> None:
        """Say what is known so far: a complete archive is loaded, the rest raises. Nothing written
        is no error as long as somebody has the file open, as after a shell's redirection.
        """
        self._take_gathered()
        if self._lost is not None:
            await self._listener.flushed(self)
            raise self._lost
        if self._import is None and self._spool is None:
            if self._is_untouched:
                await self._in_thread(self._refuse_if_closed)
            return
        while self._accepted < self.receipt.size and self._wants_more():
            await self._fill_hole()
        await self._drained()
        if self.error is None or self._may_recover():  # it may be of a flush before the last write
            await self._in_thread(self._finish)
        await self._listener.flushed(self)
        if self.error is not None:
            raise self.error

    async def sync(self) -> None:
        """Wait for what was written; raises only what cannot become right any more."""
        await self._drained()
        if self.error is not None and not self._may_recover():
            raise self.error

    async def truncate(self, size: int) -> None:
        """Begin anew at 0; make the file longer, which is a hole."""
        self._take_gathered()
        if size == 0 and self.receipt.size:
            await self._reset()
            self.receipt.size = 0
            self.result = None
            self.error = None
            self.kept = ()
        elif size < self._written:
            raise OSError(errno.EINVAL, "an archive is read as it arrives: it cannot be cut short")
        else:
            self.receipt.size = size

    async def abandon(self) -> None:
        """The mount ends: drop what is not loaded."""
        await self._reset()

    async def released(self) -> None:
        """A handle is closed; after the last one nothing but the receipt stays, and that only of
        what is loaded.
        """
        self._handles -= 1
        if self._handles == 0:
            if self.status is Status.EMPTY:
                self.error = _nothing_written()
            elif self.status is Status.LOADING:
                self.error = BrokenArchive("", "is not complete: its writer was ended")
            await self._reset()
            self._gather.close()
            self._gather = Gather()
            await self._listener.closed(self)

    # -- within -----------------------------------------------------------------------------------

    @property
    def _written(self) -> int:
        """The end of what has come."""
        return max(self._accepted, self._spool.end if self._spool else 0)

    @property
    def _is_untouched(self) -> bool:
        """Whether nothing was written, nor a size set as who reserves space does."""
        return self.status is Status.EMPTY and not self.receipt.size

    def _refuse_if_closed(self) -> None:
        if not is_open(f"import/{self.name}"):
            raise _nothing_written()

    def _wants_more(self) -> bool:
        if self._import is None:
            return True
        is_ahead = self._spool is not None and self._spool.first is not None
        return not self._import.failed and (is_ahead or not self._import.ended)

    def _may_recover(self) -> bool:
        return self._import is not None and not self._import.failed

    async def _accept(self, data: bytes) -> None:
        self._keep(data)
        if self._feed is not None:
            await self._feed.all_but(_AHEAD)

    def _keep(self, data: bytes) -> None:
        if self._feed is None:
            self._import = self._begin()
            self._feed = Feed(partial(self._consume, self._import), self._in_thread, self._nursery)
        self._feed.put(data)
        self._accepted += len(data)

    def _take_gathered(self) -> None:
        if data := self._gather.take():
            self._keep(data)
            self.receipt.size = max(self.receipt.size, self._accepted)

    async def _accept_spooled(self) -> None:
        while self._spool is not None and (data := self._spool.take(self._accepted)):
            await self._accept(data)

    async def _put_aside(self, offset: int, data: bytes) -> None:
        try:
            if self._spool is None:
                self._spool = Spool(self._spool_directory)
            await self._in_thread(partial(self._spool.put, offset, data))
        except OSError as error:
            self.error = self._lost = error
            raise

    async def _fill_hole(self) -> None:
        spooled = self._spool.first if self._spool else None
        end = self.receipt.size if spooled is None else spooled
        await self._accept(_ZEROS[: end - self._accepted])
        await self._accept_spooled()

    async def _drained(self) -> None:
        """Wait until the import has had everything."""
        self._take_gathered()
        if self._feed is not None:
            await self._feed.all_but(0)

    async def _in_thread(self, call: Callable[[], None]) -> None:
        """One call after the other; whoever awaits it may be cancelled, the call goes on."""
        failure: list[Exception] = []
        ended = trio.Event()

        async def run() -> None:
            async with self._engine_lock:
                try:
                    await self._workers.write(call)
                except Exception as error:  # it is raised below, where somebody waits for it
                    failure.append(error)
            ended.set()

        self._nursery.start_soon(run)
        await ended.wait()
        if failure:
            raise failure[0]

    def _consume(self, target: Import, data: bytes) -> None:
        if target.failed:
            return
        try:
            target.feed(data)
        except Exception as error:  # it is told at the next write or flush
            self.error = error
            _abort(target)

    def _finish(self) -> None:
        assert self._import is not None
        try:
            self.result = self._import.finish()
            self.error = None
            self.kept = _names(self.result)
        except Exception as error:  # it is told by the flush that asked
            self.error = error
            if self._import.failed:
                _abort(self._import)

    async def _reset(self) -> None:
        await self._drained()
        if self._import is not None:
            await self._in_thread(partial(_abort, self._import))
        if self._spool is not None:
            self._spool.close()
        if self.error is not None:  # its frames hold what was read last
            self.error = self.error.with_traceback(None)
            self.error.__cause__ = self.error.__context__ = None
        self._feed = self._import = self._spool = self._lost = None
        self._accepted = 0

"""Blobs on their way into the cache.

A `Download` is one ingest of the cache. Its thread appends what the registry sends; every reader of
the blob (`reader.py`) waits for the bytes that it wants, and reads the cached file once that is
whole. The last bytes are given out when the digest of all is right. A connection that breaks is
taken up after the last byte that came.
"""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from threading import Condition, Lock, Thread
from typing import Final

from urllib3.exceptions import HTTPError
from urllib3.response import BaseHTTPResponse

from engine.content.protocols import ReaderAt
from engine.content.writer import Writer
from engine.errors import DigestMismatch, EngineError, SizeMismatch, Unavailable, Unreachable
from engine.stores.content import ContentStore
from engine.stores.registry.api import Reading
from engine.stores.registry.remote_blob import RemoteBlob

INGEST: Final = "registry-"
"""The beginning of the refs of downloads' ingests."""
_FIRST_PIECE: Final = 64 << 10
PIECE: Final = 1 << 20
"""Bytes that are read from a connection at a time."""
AHEAD: Final = 8 << 20
"""Bytes beyond those that have come at which a reader makes a request of its own."""
ATTEMPTS: Final = 5
"""Answers without a new byte after which a registry counts as unreachable."""
NO_SPACE: Final = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EROFS})
"""Errors of a cache that cannot have a blob."""
_END_SECONDS: Final = 5.0
"""Seconds that a download which was stopped may take to end; what it waits for longer is the answer
to a request, which has a timeout of its own.
"""


class Download:
    """The ingest of one blob. Safe from any thread."""

    def __init__(
        self,
        reading: Reading,
        cache: ContentStore,
        blob: RemoteBlob,
        on_end: Callable[[Download], None],
        previous: Download | None = None,
    ) -> None:
        """`on_end` is called in the download's thread, whether or not the blob has come.

        The ingest of a `previous` one, which is about to end, is taken up.
        """
        self.blob = blob
        self._previous = previous
        self._ref = f"{INGEST}{blob.digest}"
        self._reading = reading
        self._cache = cache
        self._on_end = on_end
        self._changed = Condition(Lock())
        self._writer: Writer | None = None
        self._available = 0
        self._reader: ReaderAt | None = None
        self._readers = 0
        self._has_ended = False
        self._error: Exception | None = None
        self._is_stopped = False
        self._thread: Thread | None = None
        self._response: BaseHTTPResponse | None = None
        """The answer that the thread reads."""

    def join(self) -> bool:
        """Count a reader, which calls `leave` at its end; return False after the download's end."""
        with self._changed:
            if self._has_ended and self._reader is None:
                return False
            self._readers += 1
            return True

    def leave(self) -> None:
        """Count a reader less; the last one closes the file."""
        with self._changed:
            self._readers -= 1
            self._close_if_unused()

    def start(self) -> None:
        """Begin the download, once."""
        with self._changed:
            if self._thread is None:
                self._thread = Thread(target=self._run, name="download", daemon=True)
                self._thread.start()

    def stop(self) -> None:
        """Let the download end, which a later one takes up, also while no bytes come."""
        with self._changed:
            self._is_stopped = True
            if self._response is not None:
                with suppress(ValueError, RuntimeError, OSError):  # all of it has come
                    self._response.shutdown()

    def wait(self) -> None:
        """Wait for the thread of a download that was stopped; one that still waits for an answer is
        left behind.
        """
        if self._thread is not None:
            self._thread.join(_END_SECONDS)

    @property
    def has_ended(self) -> bool:
        """Whether `join` has to fail, or all has come."""
        return self._has_ended

    @property
    def is_started(self) -> bool:
        return self._thread is not None

    def pread(self, length: int, offset: int) -> bytes | None:
        """Return bytes once they have come; None if they are so far ahead that the caller should
        ask for them, or if the cache cannot have them. Raise what has ended the download.
        """
        end = min(offset + length, self.blob.size)
        with self._changed:
            while True:
                if self._reader is not None:
                    return self._reader.pread(length, offset)
                if self._writer is not None and end <= self._available:
                    return self._writer.pread(end - offset, offset)
                if self._error is not None:
                    raise self._error
                if self._has_ended or offset > self._available + AHEAD:
                    return None
                self._changed.wait()

    def _run(self) -> None:
        failure: Exception | None = None
        try:
            if self._previous is not None:
                self._previous.wait()
                self._previous = None
            self._fetch()
        except (Unavailable, _Abandoned):  # another process writes it, or nobody reads it
            pass
        except OSError as error:
            if error.errno in NO_SPACE:
                self._discard()
            else:
                failure = error
        except Exception as error:  # the readers raise it
            failure = error
        with self._changed:
            self._error = failure
            self._has_ended = True
            self._close_if_unused()
            self._changed.notify_all()
        self._on_end(self)

    def _fetch(self) -> None:
        blob = self.blob
        for is_last in (False, True):
            writer = self._ingest()
            try:
                with self._reading.client.transfer():
                    self._take(writer)
                writer.verify()
                with self._changed:
                    self._available = blob.size
                    self._changed.notify_all()
                self._commit(writer)
                return
            except (DigestMismatch, SizeMismatch):
                self._forget(writer)
                writer.abort()
                blob.turn()
                if is_last:
                    raise
            finally:
                self._forget(writer)
                writer.close()

    def _ingest(self) -> Writer:
        """Return the ingest of the blob; one that was begun with another size is dropped."""
        blob = self.blob
        with suppress(SizeMismatch):
            return self._cache.writer(self._ref, blob.size, blob.digest)
        self._cache.abort(self._ref)
        return self._cache.writer(self._ref, blob.size, blob.digest)

    def _discard(self) -> None:
        """Give back the space of an ingest that cannot be completed; readers ask for ranges."""
        with suppress(EngineError, OSError):
            self._cache.abort(self._ref)

    def _forget(self, writer: Writer) -> None:
        with self._changed:
            if self._writer is writer:
                self._writer, self._available = None, 0

    def _commit(self, writer: Writer) -> None:
        """Make the ingest a blob of the cache. Readers go on with its bytes while they are made
        durable, and wait while they are moved, which closes their file.
        """
        self._cache.prepare([writer])
        with self._changed:
            self._writer = None
        self._cache.publish([(writer, {})])
        reader = self._cache.open(self.blob.digest)
        with self._changed:
            self._reader = reader
            self._changed.notify_all()

    def _take(self, writer: Writer) -> None:
        """Append the bytes that are still to come; after a break ask for the rest."""
        with self._changed:
            self._writer = writer
            self._publish(writer)
        failures = 0
        while writer.offset < self.blob.size:
            before = writer.offset
            self._check_wanted()
            try:
                for piece in self._pieces(writer.offset):
                    writer.write(piece)
                    with self._changed:
                        self._publish(writer)
                if writer.offset < self.blob.size:
                    raise Unreachable(self._reading.client.location.url, "ends an answer too early")
            except (HTTPError, Unreachable) as error:
                failures = 1 if writer.offset > before else failures + 1
                if failures >= ATTEMPTS:
                    if isinstance(error, Unreachable):
                        raise
                    url = self._reading.client.location.url
                    raise Unreachable(url, f"breaks off {self.blob.digest}") from None
                self._check_wanted()
                self._reading.client.pause(failures)

    def _publish(self, writer: Writer) -> None:
        """Let readers have what has come, but for the end of the blob."""
        self._available = min(writer.offset, max(0, self.blob.size - 1))
        self._changed.notify_all()

    def _check_wanted(self) -> None:
        """Stop, and leave the ingest to a later download, if there is no reader any more."""
        with self._changed:
            if not self._readers or self._is_stopped:
                self._has_ended = True
                raise _Abandoned

    def _pieces(self, offset: int) -> Iterator[bytes]:
        """Yield the bytes from an offset as they come, also from an answer with all of them."""
        with self._answer(offset) as response:
            skipped = offset if response.status == 200 else 0
            left = self.blob.size - offset
            wanted = _FIRST_PIECE
            while left > 0:
                piece = response.read(wanted)
                self._check_wanted()  # `stop` lets a read over TLS return what is still encrypted
                if not piece:
                    return
                wanted = PIECE
                if skipped:
                    dropped = min(skipped, len(piece))
                    skipped -= dropped
                    piece = piece[dropped:]
                piece = piece[:left]
                left -= len(piece)
                if piece:
                    yield piece

    @contextmanager
    def _answer(self, offset: int) -> Iterator[BaseHTTPResponse]:
        """Enter the answer to a request for the bytes from an offset, which `stop` interrupts.

        Its connection is free after the last byte that it announces, and else closed at the end.
        """
        response = self.blob.request(offset, self.blob.size - 1 if offset else -1)
        try:
            with self._changed:
                self._response = response
            self._check_wanted()
            yield response
        finally:
            with self._changed:
                self._response = None
            response.close()

    def _close_if_unused(self) -> None:
        if self._has_ended and self._readers == 0 and self._reader is not None:
            self._reader.close()
            self._reader = None


class _Abandoned(Exception):
    """Nobody reads the blob any more."""

"""Writing of the entries of a layout as a tar archive into a file, several blobs at a time.

The archive is the one that `writer.write_archive` writes. The places of all entries are known at
the beginning, so each blob is hashed and written from one buffer, on every core, into space that
the file system has reserved at once.
"""

from collections.abc import Iterator, Sequence
from threading import Lock

import msgspec

from engine.archive import writer
from engine.archive.entry_content import Contents, Source
from engine.files import write_at
from engine.layouts.entry import Entry
from engine.progress import Done, Progress, ignore
from engine.tar import header_encoder as encode
from engine.tracing import Tracer, Untraced


class FileOutput(msgspec.Struct, frozen=True):
    """The destination of an archive: an empty regular file that may be written in any order."""

    descriptor: int
    progress: Progress = ignore
    tracer: Tracer = Untraced()

    def write_layout(self, entries: Sequence[Entry], source: Source) -> int:
        """Write an archive; raise the errors of `writer.write_archive` and of the file."""
        archive = _Archive(self.descriptor, entries, self.progress)
        _reserve(self.descriptor, archive.size)
        with (
            self.tracer.span("writeTar"),
            Contents(entries, source, self.tracer, archive.put) as contents,
        ):
            archive.write(contents)
        return archive.size


class _Archive:
    """The places of entries in an archive, and how much of it is written."""

    def __init__(self, descriptor: int, entries: Sequence[Entry], progress: Progress) -> None:
        self._descriptor = descriptor
        self._entries = entries
        self._progress = progress
        self._places: dict[str, int] = {}
        self._lock = Lock()
        self._written = 0
        self._layers, self._all_layers = 0, sum(entry.is_layer for entry in entries)
        self.size = 0
        for entry in entries:
            self._places[entry.path] = self.size = self.size + len(writer.header(entry))
            self.size += entry.size + -entry.size % encode.BLOCK
        self.size += len(encode.END)

    def write(self, contents: Contents) -> None:
        """Write everything but what `put` writes meanwhile."""
        for entry in self._entries:
            self._layers += entry.is_layer
            header = writer.header(entry)
            self.put(entry, header, -len(header))
            with contents.opened(entry) as content:
                self._put_all(entry, content.chunks)
        self._put(encode.END, self.size - len(encode.END))

    def put(self, entry: Entry, data: bytes, offset: int) -> None:
        """Write bytes of an entry, from an offset in it on."""
        self._put(data, self._places[entry.path] + offset)

    def _put_all(self, entry: Entry, chunks: Iterator[bytes]) -> None:
        offset = 0
        for chunk in chunks:
            self.put(entry, chunk, offset)
            offset += len(chunk)
        if padding := encode.padding(entry.size):
            self.put(entry, padding, entry.size)

    def _put(self, data: bytes, offset: int) -> None:
        write_at(self._descriptor, data, offset)
        with self._lock:
            self._written += len(data)
            self._progress(Done(self._written, self.size, self._layers, self._all_layers))


def _reserve(descriptor: int, size: int) -> None:
    """Reserve the space of a file at once, which takes less time than with each page.

    Do nothing if the file system cannot, or is full: the writes that follow say so. The C library's
    posix_fallocate would write to each block instead.
    """
    from ctypes import CDLL, c_int64  # deferred: most archives go to a pipe

    CDLL(None).fallocate(descriptor, 0, c_int64(0), c_int64(size))

"""Writing of the entries of a layout as a tar archive, byte for byte as Go's tools write it.

The entries have no owner; two zero blocks end the archive, without further padding. Every blob is
verified as it is copied, and a decompressed layer by its diff ID.

A layer that does not match its diff ID ends the archive with an error. docker only warns of it and
writes the layer under its actual digest, to which nothing else in the archive refers.
"""

from collections.abc import Callable, Sequence
from contextlib import ExitStack

from engine.archive.entry_content import Contents, Source
from engine.archive.pipe_copy import PipeCopy
from engine.layouts.entry import Entry
from engine.progress import Done, Progress, ignore
from engine.tar import header_encoder as encode
from engine.tar.header_encoder import Header
from engine.tracing import Tracer, Untraced

_UNTRACED = Untraced()


def write_archive(
    entries: Sequence[Entry],
    source: Source,
    write: Callable[[bytes], object],
    progress: Progress = ignore,
    tracer: Tracer = _UNTRACED,
    pipe: int | None = None,
) -> int:
    """Write an archive; return its size in bytes.

    `pipe` is the pipe into which `write` writes at once, if there is one: large blobs in files are
    passed on to it by the kernel. `progress` is called with the number of bytes written, the
    expected total, and the numbers of layers begun and of all layers. Raise SizeMismatch or
    DigestMismatch if a blob does not match its entry, BrokenArchive if it cannot be decompressed,
    NotFound if it is absent; the archive is then incomplete.
    """
    archive = _Archive(entries, write, progress)
    with ExitStack() as stack:
        copy = None if pipe is None else stack.enter_context(PipeCopy(pipe, archive.count))
        contents = stack.enter_context(Contents(entries, source, tracer, pipe=copy))
        for entry in entries:
            archive.put(entry, contents)
    archive.end()
    return archive.size


class _Archive:
    """An archive that is written in order, and how much of it is."""

    def __init__(
        self, entries: Sequence[Entry], write: Callable[[bytes], object], progress: Progress
    ) -> None:
        sizes = (encode.BLOCK + e.size + -e.size % encode.BLOCK for e in entries)
        self._total = len(encode.END) + sum(sizes)
        self._layers, self._total_layers = 0, sum(entry.is_layer for entry in entries)
        self._write_bytes = write
        self._progress = progress
        self.size = 0

    def put(self, entry: Entry, contents: Contents) -> None:
        self._layers += entry.is_layer
        self._write(header(entry))
        with contents.opened(entry) as content:
            for chunk in content.chunks:
                self._write(chunk)
        if entry.size % encode.BLOCK:
            self._write(encode.padding(entry.size))

    def end(self) -> None:
        self._write(encode.END)

    def count(self, size: int) -> None:
        """Count bytes that were written."""
        self.size += size
        self._progress(Done(self.size, self._total, self._layers, self._total_layers))

    def _write(self, data: bytes) -> None:
        self._write_bytes(data)
        self.count(len(data))


def header(entry: Entry) -> bytes:
    """Return the header blocks of an entry."""
    if entry.is_directory:
        return encode.encode(
            Header(f"{entry.path}/", encode.DIRECTORY, entry.mode, mtime=entry.mtime)
        )
    return encode.encode(Header(entry.path, mode=entry.mode, size=entry.size, mtime=entry.mtime))

"""Writing of the entries of a layout as a tar archive, byte for byte as Go's tools write it.

The entries have no owner; two zero blocks end the archive, without further padding. Every blob is
verified as it is copied, and a decompressed layer by its diff ID.

A layer that does not match its diff ID ends the archive with an error. docker only warns of it and
writes the layer under its actual digest, to which nothing else in the archive refers.
"""

from collections.abc import Callable, Iterator, Sequence

from engine.archive.entry_content import Contents, Source
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
) -> int:
    """Write an archive; return its size in bytes.

    `progress` is called with the number of bytes written, the expected total, and the numbers of
    layers begun and of all layers. Raise SizeMismatch or DigestMismatch if a blob does not match
    its entry, BrokenArchive if it cannot be decompressed, NotFound if it is absent; the archive is
    then incomplete.
    """
    done, layers = 0, 0
    total = len(encode.END) + sum(encode.BLOCK + e.size + -e.size % encode.BLOCK for e in entries)
    total_layers = sum(entry.is_layer for entry in entries)
    with Contents(entries, source, tracer) as contents:
        for entry in entries:
            layers += entry.is_layer
            for data in _pieces(entry, contents):
                write(data)
                done += len(data)
                progress(Done(done, total, layers, total_layers))
    write(encode.END)
    done += len(encode.END)
    progress(Done(done, total, layers, total_layers))
    return done


def _pieces(entry: Entry, contents: Contents) -> Iterator[bytes]:
    yield header(entry)
    with contents.opened(entry) as content:
        yield from content.chunks
    if entry.size % encode.BLOCK:
        yield encode.padding(entry.size)


def header(entry: Entry) -> bytes:
    """Return the header blocks of an entry."""
    if entry.is_directory:
        return encode.encode(
            Header(f"{entry.path}/", encode.DIRECTORY, entry.mode, mtime=entry.mtime)
        )
    return encode.encode(Header(entry.path, mode=entry.mode, size=entry.size, mtime=entry.mtime))

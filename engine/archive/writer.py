"""Writing a layout's entries as a tar, byte for byte as Go's tools write it.

Nobody owns anything; two zero blocks at the end and no further padding. Every blob is verified as
it is copied. Nothing is buffered but a chunk.
"""

from collections.abc import Callable, Iterable, Iterator

from engine import digest as digests
from engine.archive import encode
from engine.archive.encode import Header
from engine.content import Provider
from engine.digest import Digest
from engine.errors import DigestMismatch, SizeMismatch
from engine.layouts import Entry

_CHUNK = 1 << 20
_EMPTY = b""


def write_archive(
    entries: Iterable[Entry],
    provider: Provider,
    write: Callable[[bytes], object],
    progress: Callable[[int], None] | None = None,
) -> int:
    """Write an archive; its size in bytes. `progress` hears how many bytes are written so far.

    SizeMismatch or DigestMismatch where a blob is not what its entry says, NotFound; what is
    written by then is no complete archive.
    """
    total = 0
    for data in _pieces(entries, provider):
        write(data)
        total += len(data)
        if progress is not None:
            progress(total)
    return total


def _pieces(entries: Iterable[Entry], provider: Provider) -> Iterator[bytes]:
    for entry in entries:
        yield encode.encode(_header(entry))
        if isinstance(entry.content, Digest):
            yield from _verified(entry, entry.content, provider)
        elif entry.content:
            yield entry.content
        if entry.size % encode.BLOCK:
            yield encode.padding(entry.size)
    yield encode.END


def _verified(entry: Entry, digest: Digest, provider: Provider) -> Iterator[bytes]:
    """A blob's bytes; the last piece comes only when all of them were right."""
    hasher = digests.hasher(digest.algorithm)
    with provider.open(digest) as reader:
        if reader.size != entry.size:
            raise SizeMismatch(entry.path, entry.size, reader.size)
        data, position = _EMPTY, 0
        while position < entry.size:
            if data:
                yield data
            data = reader.pread(min(_CHUNK, entry.size - position), position)
            if not data:
                raise SizeMismatch(entry.path, entry.size, position)
            hasher.update(data)
            position += len(data)
    found = digests.from_hash(digest.algorithm, hasher)
    if found != digest:
        raise DigestMismatch(entry.path, digest, found)
    if data:
        yield data


def _header(entry: Entry) -> Header:
    if entry.is_directory:
        return Header(f"{entry.path}/", encode.DIRECTORY, entry.mode, mtime=entry.mtime)
    return Header(entry.path, mode=entry.mode, size=entry.size, mtime=entry.mtime)

"""Writing a layout's entries as a tar, byte for byte as Go's archive/tar writes such headers.

ustar, or PAX for what ustar cannot hold; nobody owns anything; two zero blocks at the end and no
further padding. Every blob is verified as it is copied. Nothing is buffered but a chunk.
"""

import tarfile
from collections.abc import Callable, Iterable, Iterator

from engine import digest as digests
from engine.content import Provider
from engine.digest import Digest
from engine.errors import DigestMismatch, SizeMismatch
from engine.layouts import Entry

_BLOCK = 512
_CHUNK = 1 << 20
_USTAR_MAX_SIZE = 8**11 - 1


def write_archive(
    entries: Iterable[Entry],
    provider: Provider,
    write: Callable[[bytes], object],
    progress: Callable[[int], None] | None = None,
) -> int:
    """Write an archive; its size in bytes. `progress` hears how many bytes are written so far.

    SizeMismatch or DigestMismatch where a blob is not what its entry says, NotFound.
    """
    total = 0
    for entry in entries:
        for data in _pieces(entry, provider):
            write(data)
            total += len(data)
            if progress is not None:
                progress(total)
    write(bytes(2 * _BLOCK))
    return total + 2 * _BLOCK


def _pieces(entry: Entry, provider: Provider) -> Iterator[bytes]:
    yield _header(entry)
    if isinstance(entry.content, Digest):
        yield from _verified(entry, entry.content, provider)
    elif entry.content:
        yield entry.content
    if entry.size % _BLOCK:
        yield bytes(-entry.size % _BLOCK)


def _verified(entry: Entry, digest: Digest, provider: Provider) -> Iterator[bytes]:
    """A blob's bytes; the last piece comes only when all of them were right."""
    hasher = digests.hasher(digest.algorithm)
    with provider.open(digest) as reader:
        if reader.size != entry.size:
            raise SizeMismatch(entry.path, entry.size, reader.size)
        position = 0
        while position < entry.size:
            data = reader.pread(min(_CHUNK, entry.size - position), position)
            if not data:
                raise SizeMismatch(entry.path, entry.size, position)
            hasher.update(data)
            position += len(data)
            if position == entry.size and digests.from_hash(digest.algorithm, hasher) != digest:
                found = digests.from_hash(digest.algorithm, hasher)
                raise DigestMismatch(entry.path, digest, found)
            yield data


def _header(entry: Entry) -> bytes:
    info = tarfile.TarInfo(entry.path + "/" * entry.is_directory)
    info.type = tarfile.DIRTYPE if entry.is_directory else tarfile.REGTYPE
    info.mode, info.mtime, info.size = entry.mode, entry.mtime, entry.size
    if entry.size > _USTAR_MAX_SIZE:
        info.pax_headers = {"size": str(entry.size)}
        return info.tobuf(tarfile.PAX_FORMAT)
    return info.tobuf(tarfile.USTAR_FORMAT)

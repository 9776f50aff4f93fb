"""Writing a layout's entries as a tar, byte for byte as Go's archive/tar writes such headers.

ustar, or PAX for what ustar cannot hold; nobody owns anything; two zero blocks at the end and no
further padding. Every blob is verified as it is copied. Nothing is buffered but a chunk.
"""

import posixpath
import struct
from collections.abc import Callable, Iterable, Iterator

from engine import digest as digests
from engine.content import Provider
from engine.digest import Digest
from engine.errors import DigestMismatch, SizeMismatch
from engine.layouts import Entry

_BLOCK = 512
_CHUNK = 1 << 20
_FIELDS = struct.Struct("100s8s8s8s12s12s8s1s100s8s32s32s8s8s155s12x")
_CHECKSUM = slice(148, 156)
_MAGIC = b"ustar\x0000"
_NAME = 100
_PREFIX = 155
_MAX_NUMBER = 8**11 - 1
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
        yield _header(entry)
        if isinstance(entry.content, Digest):
            yield from _verified(entry, entry.content, provider)
        elif entry.content:
            yield entry.content
        if entry.size % _BLOCK:
            yield _padding(entry.size)
    yield bytes(2 * _BLOCK)


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


def _header(entry: Entry) -> bytes:
    """The blocks before the entry's data."""
    path = f"{entry.path}/" if entry.is_directory else entry.path
    flag = b"5" if entry.is_directory else b"0"
    records = {}
    if not 0 <= entry.mtime <= _MAX_NUMBER:
        records["mtime"] = str(entry.mtime)
    if entry.size > _MAX_NUMBER:
        records["size"] = str(entry.size)
    place = _split(path)
    if place and not records:
        name, prefix = place
        return _block(name, flag, entry.size, entry.mode, entry.mtime, prefix)
    if not _fits(path):
        records["path"] = path
    main = _block(_shortened(path), flag, entry.size, entry.mode, entry.mtime)
    return _pax(path, records) + main


def _pax(path: str, records: dict[str, str]) -> bytes:
    """An extended header, called as Go calls it."""
    data = b"".join(_record(key, value) for key, value in sorted(records.items()))
    directory, base = posixpath.split(path)
    name = _shortened(posixpath.join(directory, "PaxHeaders.0", base).rstrip("/"))
    return _block(name, b"x", len(data)) + data + _padding(len(data))


def _record(key: str, value: str) -> bytes:
    text = f" {key}={value}\n".encode(errors="surrogateescape")
    size = len(text)
    while size != len(text) + len(str(size)):
        size = len(text) + len(str(size))
    return str(size).encode() + text


def _block(
    name: bytes, flag: bytes, size: int, mode: int = 0, mtime: int = 0, prefix: bytes = _EMPTY
) -> bytes:
    device = _EMPTY if flag == b"x" else _octal(0, 8)
    nobody = _octal(0, 8)
    block = bytearray(
        _FIELDS.pack(
            name,
            _octal(mode, 8),
            nobody,
            nobody,
            _octal(size, 12),
            _octal(mtime, 12),
            b" " * 8,
            flag,
            _EMPTY,
            _MAGIC,
            _EMPTY,
            _EMPTY,
            device,
            device,
            prefix,
        )
    )
    block[_CHECKSUM] = _octal(sum(block), 7) + b" "
    return bytes(block)


def _octal(value: int, width: int) -> bytes:
    """A number as digits and a NUL; zero where it does not fit, since PAX says it then."""
    digits = width - 1
    return b"%0*o\0" % (digits, value if 0 <= value < 8**digits else 0)


def _fits(path: str) -> bool:
    return path.isascii() and len(path) <= _NAME


def _split(path: str) -> tuple[bytes, bytes] | None:
    """A path as ustar's name and prefix, None if it does not fit or is not ASCII."""
    if _fits(path):
        return path.encode(), _EMPTY
    slash = path[: min(_PREFIX + 1, len(path) - 1)].rfind("/")
    prefix, name = path[: max(slash, 0)], path[slash + 1 :]
    return (name.encode(), prefix.encode()) if prefix and path.isascii() and _fits(name) else None


def _shortened(path: str) -> bytes:
    """As much of a path as the name field holds, for readers that do not know PAX; a slash that the
    cut leaves at the end would make it a directory.
    """
    text = path.encode("ascii", "ignore")
    return text if len(text) <= _NAME else text[:_NAME].rstrip(b"/")


def _padding(size: int) -> bytes:
    return bytes(-size % _BLOCK)

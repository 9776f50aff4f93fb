"""Documents that are derived from blobs: checked, versioned and compressed."""

import sys
from types import ModuleType
from typing import Any, Final

import msgspec

from engine.compression.checksum import crc32
from engine.errors import BrokenArchive

_CHECKSUM: Final = 4
_SMALL: Final = 4 << 10
_ZSTD: Final = b"\x28\xb5\x2f\xfd"
_LEVEL: Final = 6


class Format(msgspec.Struct, frozen=True):
    """The format of a kind of documents.

    A document is a header (a name and the version of the format), a CRC-32 of what follows it, and
    a MessagePack value, compressed with zstd if it is larger than 4 KiB.
    """

    name: str
    version: int

    @property
    def header(self) -> bytes:
        return f"imgfs {self.name} ".encode() + self.version.to_bytes(2)

    def dump(self, value: Any) -> bytes:
        """Return a document; the same value gives the same bytes."""
        plain = msgspec.msgpack.encode(value)
        body = plain if len(plain) <= _SMALL else _zstd().compress(plain, _LEVEL)
        return self.header + crc32(body).to_bytes(_CHECKSUM) + body

    def load(self, data: bytes) -> bytes | memoryview | None:
        """Return the encoded value in a document, None if it is of another format or version.

        Raise BrokenArchive if it is damaged.
        """
        header = self.header
        if not data.startswith(header):
            return None
        start = len(header) + _CHECKSUM
        body = memoryview(data)[start:]
        expected, found = int.from_bytes(data[len(header) : start]), crc32(body)
        if expected != found:
            what = f"expected the checksum {expected:08x}, found {found:08x}"
            raise BrokenArchive("", f"is a damaged {self.name}: {what}")
        return body if bytes(body[:4]) != _ZSTD else _zstd().decompress(body)


def _zstd() -> ModuleType:
    """Return the module zstd, which small documents do without."""
    if sys.version_info >= (3, 14):
        from compression import zstd
    else:
        from backports import zstd
    return zstd

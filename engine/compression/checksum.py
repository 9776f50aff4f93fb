"""Checksums that notice accidental changes: CRC-32, and CRC-32 with Adler-32 for whole files.

zlib is there without an import; zlib-ng takes half of its time for a small file and a tenth for a
large one. The values are the same.
"""

import zlib
from types import ModuleType
from typing import Final

_WORTH_IT: Final = 128 << 10


def library(size: int) -> ModuleType:
    """Return the module whose crc32 and adler32 are the faster ones for `size` bytes in all."""
    if size < _WORTH_IT:
        return zlib
    from zlib_ng import zlib_ng

    return zlib_ng


def crc32(data: bytes | memoryview, before: int = 0) -> int:
    """Return the CRC-32 of `data`, or of bytes whose CRC-32 is `before` with `data` behind them."""
    found: int = library(len(data)).crc32(data, before)
    return found


class FileChecksum:
    """The CRC-32 and the Adler-32 of bytes that arrive in pieces, as one number of 64 bits."""

    def __init__(self, functions: ModuleType) -> None:
        """`functions` is what `library` returns."""
        self._functions = functions
        self._crc32 = 0
        self._adler32 = 1

    def update(self, data: bytes | memoryview) -> None:
        self._crc32 = self._functions.crc32(data, self._crc32)
        self._adler32 = self._functions.adler32(data, self._adler32)

    @property
    def value(self) -> int:
        return self._crc32 << 32 | self._adler32

"""Checksums that notice accidental changes: CRC-32, and CRC-32 with Adler-32 for whole files.

zlib is there without an import; zlib-ng takes half of its time for a small file and a tenth for a
large one. The values are the same.
"""

import zlib
from types import ModuleType
from typing import Final

_WORTH_IT: Final = 128 << 10
_ADLER_MODULUS: Final = 65521
_CRC_MASK: Final = 0xFFFFFFFF
"""The complement that a CRC-32 begins and ends with."""


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

    def update_zeros(self, count: int) -> None:
        """Take this many zeros, in a time that grows with the number of its digits only."""
        from isal.isal_zlib import crc32_combine  # few layers have sparse files

        # The combination shifts a CRC-32 by that many bytes, which is what zeros do to its
        # complement.
        self._crc32 = crc32_combine(self._crc32 ^ _CRC_MASK, 0, count) ^ _CRC_MASK
        low, high = self._adler32 & 0xFFFF, self._adler32 >> 16
        self._adler32 = (high + count * low) % _ADLER_MODULUS << 16 | low

    @property
    def value(self) -> int:
        return self._crc32 << 32 | self._adler32

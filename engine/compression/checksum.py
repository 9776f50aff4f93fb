"""CRC-32, by isal for large buffers: zlib takes ten times as long, but needs no import."""

import zlib
from typing import Final

_WORTH_IT: Final = 128 << 10


def crc32(data: bytes | memoryview, value: int = 0) -> int:
    """Return the CRC-32 of `data` behind bytes whose CRC-32 is `value`."""
    if len(data) < _WORTH_IT:
        return zlib.crc32(data, value)
    from isal import isal_zlib

    return isal_zlib.crc32(data, value)

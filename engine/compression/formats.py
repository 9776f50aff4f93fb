"""The formats of compressed streams, by their first bytes."""

import re
from typing import Final

import msgspec

SNIFFED: Final = 14
"""The number of leading bytes that identify the format of a stream."""


class Magic(msgspec.Struct, frozen=True):
    """A pattern that matches the first `size` bytes of a stream."""

    pattern: re.Pattern[bytes]
    size: int


MAGICS: Final = {
    "gzip": Magic(re.compile(rb"\x1f\x8b\x08"), 3),
    "zstd": Magic(re.compile(rb"\x28\xb5\x2f\xfd|[\x50-\x5f]\x2a\x4d\x18"), 4),
    "xz": Magic(re.compile(rb"\xfd7zXZ\x00"), 6),
    "bzip2": Magic(re.compile(rb"BZh[1-9](?:1AY&SY|\x17\x72\x45\x38\x50\x90)"), 10),
    # The usual properties, a dictionary of 64 KiB or more, and a plausible size or none.
    "lzma": Magic(
        re.compile(rb"\x5d\x00\x00(?!\x00\x00)..(?:\xff{8}|.{5}\x00{3})\x00", re.DOTALL), 14
    ),
    "lz4": Magic(re.compile(rb"\x04\x22\x4d\x18"), 4),
}


def sniff(head: bytes) -> str:
    """Return the compression of a stream that starts with `head`: its first SNIFFED bytes, or all
    of it.

    The result is "gzip", "zstd", "xz", "bzip2", "lzma", "lz4" or "none".
    """
    return next((name for name, magic in MAGICS.items() if magic.pattern.match(head)), "none")

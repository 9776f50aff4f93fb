"""Limits on the resources that an archive may consume, and the size of buffers."""

from collections.abc import Mapping
from threading import Lock
from typing import Final

import msgspec

from engine.errors import InvalidInput, LimitExceeded
from engine.units import is_number

BUFFER_SIZE: Final = 1 << 20
"""Bytes that are read, or come out of a decompressor, at a time."""

DOCUMENT_BYTES: Final = 1 << 30
"""Bytes of documents that one load parses or makes, also of one document several times."""


class Limits(msgspec.Struct, frozen=True):
    """The limits of an archive; the reader raises LimitExceeded beyond them.

    - max_archive_bytes: the archive as it is read, compressed or not; None for no limit
    - max_members: members of the tar, and extended headers of it
    - max_table_bytes: memory for what is kept of members, approximately
    - max_name_bytes: a name, or the target of a link
    - max_header_bytes: one extended header, or one sparse map
    - max_expanded_bytes: the sum of all decompressed and sparse data
    - max_images: images and their names
    - max_document_bytes: memory for what is kept of manifests and configs, and for the labels that
      are made of them, approximately
    """

    max_archive_bytes: int | None = None
    max_members: int = 1_000_000
    max_table_bytes: int = 80 << 20
    max_name_bytes: int = 64 << 10
    max_header_bytes: int = 1 << 20
    max_expanded_bytes: int = 256 << 30
    max_images: int = 10_000
    max_document_bytes: int = 64 << 20

    def changed(self, words: Mapping[str, str]) -> "Limits":
        """Return these limits with those in `words` replaced (field name to decimal text).

        Raise InvalidInput for an unknown field or a value that is no number.
        """
        for name, value in words.items():
            if name not in self.__struct_fields__:
                known = ", ".join(self.__struct_fields__)
                raise InvalidInput(f"expected one of {known}, found {name}")
            if not is_number(value):
                raise InvalidInput(f"{name}: expected a number, found {value}")
        return msgspec.structs.replace(self, **{name: int(value) for name, value in words.items()})


class Expansion:
    """The bytes to which the parts of one archive have expanded; safe from any thread."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._bytes = 0
        self._lock = Lock()

    def add(self, size: int) -> None:
        """Add `size` bytes; raise LimitExceeded if the sum is over the limit."""
        with self._lock:
            self._bytes += size
            expanded = self._bytes
        if expanded > self._limit:
            raise LimitExceeded("archive", "expanded bytes", self._limit, expanded)

"""How much of an archive is taken: few limits, each against what would eat the machine."""

from collections.abc import Mapping

import msgspec

from engine.errors import InvalidInput, LimitExceeded


class Limits(msgspec.Struct, frozen=True):
    """What an archive may have at most; beyond it is LimitExceeded.

    `max_archive_bytes` counts the bytes as they come, compressed if they are (None: any number);
    `max_members` the entries, and the extended headers; `max_table_bytes` what is remembered of
    members, roughly; `max_name_bytes` a name or the target of a link; `max_header_bytes` one
    extended header or one sparse map; `max_expanded_bytes` all that compressed and sparse bytes
    expand to, since that costs their writer nothing; `max_images` the images and their names.
    """

    max_archive_bytes: int | None = None
    max_members: int = 1_000_000
    max_table_bytes: int = 80 << 20
    max_name_bytes: int = 64 << 10
    max_header_bytes: int = 1 << 20
    max_expanded_bytes: int = 256 << 30
    max_images: int = 10_000

    def changed(self, words: Mapping[str, str]) -> "Limits":
        """With these limits, by their names and in decimal; InvalidInput for what is none."""
        for name, value in words.items():
            if name not in self.__struct_fields__:
                known = ", ".join(self.__struct_fields__)
                raise InvalidInput(f"expected one of {known}, found {name}")
            if not (value.isascii() and value.isdigit() and len(value) <= 18):
                raise InvalidInput(f"{name}: expected a number, found {value}")
        return msgspec.structs.replace(self, **{name: int(value) for name, value in words.items()})


class Expansion:
    """Counts what the parts of one archive have expanded to."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._bytes = 0

    def add(self, size: int) -> None:
        """So many bytes more; LimitExceeded."""
        self._bytes += size
        if self._bytes > self._limit:
            raise LimitExceeded("archive", "expanded bytes", self._limit, self._bytes)

"""How much of an archive is taken: few limits, each against what would eat the machine."""

import msgspec


class Limits(msgspec.Struct, frozen=True):
    """What an archive may have at most; beyond it is LimitExceeded.

    `max_archive_bytes` counts the bytes as they come, compressed if they are (None: any number);
    `max_members` the entries; `max_name_bytes` a name or the target of a link; `max_header_bytes`
    one extended header or one sparse map; `max_sparse_bytes` what a sparse member expands to, since
    that costs its writer nothing.
    """

    max_archive_bytes: int | None = None
    max_members: int = 1_000_000
    max_name_bytes: int = 64 << 10
    max_header_bytes: int = 1 << 20
    max_sparse_bytes: int = 64 << 30

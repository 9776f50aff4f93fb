"""How an archive is loaded."""

import msgspec

from engine.archive.limits import Limits
from engine.archive.naming import Naming
from engine.compression import Compression
from engine.oci import Platform


class ImportOptions(msgspec.Struct, frozen=True):
    """`platforms` are the only ones that are stored, and each image must have one of them (none:
    all). `compression` is for uncompressed layers of docker archives (None: they stay).
    """

    limits: Limits = msgspec.field(default_factory=Limits)
    naming: Naming = msgspec.field(default_factory=Naming)
    platforms: tuple[Platform, ...] = ()
    compression: Compression | None = None

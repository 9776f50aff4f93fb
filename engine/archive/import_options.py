"""How an archive is loaded."""

import msgspec

from engine.archive.name_rules import Naming
from engine.compression.options import Compression
from engine.limits import Limits
from engine.spec.oci import Platform


class ImportOptions(msgspec.Struct, frozen=True):
    """`platforms` are the only ones that are stored, and each image must have one of them (none:
    all). `compression` is for uncompressed layers of docker archives (None: they stay).
    """

    limits: Limits = msgspec.field(default_factory=Limits)
    naming: Naming = msgspec.field(default_factory=Naming)
    platforms: tuple[Platform, ...] = ()
    compression: Compression | None = None

"""The options of a load."""

import msgspec

from engine.archive.name_rules import Naming
from engine.compression.options import Compression
from engine.limits import Limits
from engine.spec.oci import Platform


class ImportOptions(msgspec.Struct, frozen=True):
    """The options of a load.

    If `platforms` is not empty, only these are stored, and each image must have one of them.
    `compression` applies to the uncompressed layers of docker archives; None leaves them
    uncompressed.
    """

    limits: Limits = msgspec.field(default_factory=Limits)
    naming: Naming = msgspec.field(default_factory=Naming)
    platforms: tuple[Platform, ...] = ()
    compression: Compression | None = None

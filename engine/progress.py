"""How far an archive is on its way in or out."""

import msgspec


class Copied(msgspec.Struct, frozen=True):
    """`size` bytes of `total_size` are done, `layers` of `total_layers`; None where nobody knows of
    how many.
    """

    size: int
    total_size: int | None
    layers: int
    total_layers: int | None

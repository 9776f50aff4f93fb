"""The compression of a layer and its level, as options name it.

The encoders are imported when compression starts, since they take as long to load as some commands
run.
"""

from typing import Final

import msgspec

from engine.compression.compressor import Compressor, Sink
from engine.errors import InvalidText
from engine.spec import oci
from engine.units import is_number

_GZIP_LEVELS: Final = range(1, 10)
_ZSTD_LEVELS: Final = range(1, 20)
_MEDIA_TYPES: Final = {"uncompressed": oci.LAYER, "gzip": oci.LAYER_GZIP, "zstd": oci.LAYER_ZSTD}


class InvalidCompression(InvalidText):
    """An unknown compression, or a level that the compression does not have."""

    noun = "compression"


class Compression(msgspec.Struct, frozen=True):
    """ "uncompressed", "gzip" or "zstd", and its level; None is the default level."""

    kind: str = "gzip"
    level: int | None = None

    def __post_init__(self) -> None:
        if self.kind not in _MEDIA_TYPES:
            raise InvalidCompression(self.kind, f"expected {' or '.join(_MEDIA_TYPES)}")
        levels = {"gzip": _GZIP_LEVELS, "zstd": _ZSTD_LEVELS}.get(self.kind, range(0))
        if self.level is not None and self.level not in levels:
            expected = f"a level from {levels[0]} to {levels[-1]}" if levels else "no level"
            raise InvalidCompression(str(self), f"expected {expected}")

    def __str__(self) -> str:
        return self.kind if self.level is None else f"{self.kind}:{self.level}"

    @property
    def media_type(self) -> str:
        """The OCI media type of a layer with this compression."""
        return _MEDIA_TYPES[self.kind]

    def start(self, sink: Sink) -> Compressor:
        """Return a compressor that writes to `sink`."""
        from engine.compression import compressors

        match self.kind:
            case "gzip":
                return compressors.Gzip(sink, self.level)
            case "zstd":
                return compressors.Zstd(sink, self.level or 3)
            case _:
                return compressors.Plain(sink)


def parse(text: str) -> Compression:
    """Return the compression that text such as "gzip" or "zstd:9" names.

    Raise InvalidCompression if there is none.
    """
    kind, colon, level = text.partition(":")
    if colon and not is_number(level):
        raise InvalidCompression(text, "expected KIND or KIND:LEVEL")
    return Compression(kind, int(level) if colon else None)

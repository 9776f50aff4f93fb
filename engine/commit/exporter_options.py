"""The exporter options of build tools ("compression=zstd"), with the keys of BuildKit.

They override options chosen otherwise. Unknown keys are reported and have no effect.
"""

from collections.abc import Mapping

import msgspec
from msgspec.structs import replace

from engine.commit import annotations
from engine.commit.source import CommitOptions
from engine.compression.options import Compression
from engine.errors import InvalidText, printable
from engine.spec import rfc3339
from engine.units import is_number

_TRUE = frozenset({"1", "t", "T", "TRUE", "true", "True"})
_FALSE = frozenset({"0", "f", "F", "FALSE", "false", "False"})


class InvalidOption(InvalidText):
    """An option whose value is invalid for its key."""

    noun = "option"


class ExporterOptions(msgspec.Struct, frozen=True):
    """`names` is the comma-separated text that was given; `config` is the image config as JSON, or
    empty; `unknown` are the unknown keys.
    """

    commit: CommitOptions
    names: str = ""
    config: bytes = b""
    unknown: tuple[str, ...] = msgspec.field(default=())


def parse(options: Mapping[str, str], chosen: CommitOptions) -> ExporterOptions:
    """Return `chosen` with these options applied.

    Raise InvalidOption, InvalidAnnotation, InvalidPlatform or InvalidCompression.
    """
    found = ExporterOptions(chosen)
    for key, value in options.items():
        if annotations.is_option(key):
            noted = (*found.commit.annotations, annotations.parse_option(key, value))
            found = replace(found, commit=replace(found.commit, annotations=noted))
        else:
            found = _with(found, key, value)
    return replace(found, commit=replace(found.commit, compression=_compression(options, chosen)))


def _with(found: ExporterOptions, key: str, value: str) -> ExporterOptions:
    commit = found.commit
    match key:
        case "name":
            return replace(found, names=value)
        case "containerimage.config":
            return replace(found, config=value.encode(errors="surrogateescape"))
        case "compression" | "compression-level":
            return found
        case "oci-mediatypes":
            commit = replace(commit, is_oci=_bool(key, value or "true"))
        case "force-compression":
            commit = replace(commit, recompresses_base=_bool(key, value))
        case "prefer-nondist-layers":
            commit = replace(commit, keeps_foreign=_bool(key, value))
        case "rewrite-timestamp":
            commit = replace(commit, rewrites_times=_bool(key, value))
        case "source-date-epoch":
            commit = replace(commit, epoch=_seconds(key, value) if value else None)
        case _:
            return replace(found, unknown=(*found.unknown, key))
    return replace(found, commit=commit)


def _compression(options: Mapping[str, str], chosen: CommitOptions) -> Compression:
    kind = options.get("compression", chosen.compression.kind)
    if "compression-level" in options:
        return Compression(kind, _level("compression-level", options["compression-level"]))
    return Compression(kind) if "compression" in options else chosen.compression


def _bool(key: str, value: str) -> bool:
    if value in _TRUE:
        return True
    if value in _FALSE:
        return False
    raise InvalidOption(key, f"expected true or false, found {printable(value)!r}")


def _level(key: str, value: str) -> int:
    if not is_number(value):
        raise InvalidOption(key, f"expected a number, found {printable(value)!r}")
    return int(value)


def _seconds(key: str, value: str) -> int:
    try:
        return rfc3339.seconds(value)
    except ValueError as error:
        raise InvalidOption(key, str(error)) from error

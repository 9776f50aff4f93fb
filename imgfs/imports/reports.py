"""Reports about the files that were written to `import/`, which `.imgfs/imports/` shows as JSON."""

import json
from collections.abc import Sequence
from enum import StrEnum
from typing import Any, ClassVar, Protocol

import msgspec

from engine.archive.loaded import Loaded
from engine.spec import go_json

SUFFIX = ".json"
_FIELD_LIMIT = 64 << 10
"""Characters of an error's field that a report contains."""
_MISSING_LISTED = 1000


class Status(StrEnum):
    """The state of an upload."""

    EMPTY = "empty"
    LOADING = "loading"
    LOADED = "loaded"
    FAILED = "failed"


class Reported(Protocol):
    """An upload, or what is kept of one that is gone."""

    @property
    def name(self) -> str:
        """The name of the file or directory."""
        ...

    @property
    def status(self) -> Status: ...

    @property
    def is_open(self) -> bool:
        """Whether the file is open for writing."""
        ...

    @property
    def received(self) -> int:
        """The bytes that have come so far."""
        ...

    def report(self) -> bytes:
        """Return the JSON report."""
        ...

    def finished(self) -> "FinishedReport":
        """Return the report as it is now, without the upload."""
        ...

    async def abandon(self) -> None:
        """Drop what is not loaded."""
        ...


class FinishedReport(msgspec.Struct, frozen=True):
    """The final report about a file that is gone."""

    name: str
    status: Status
    data: bytes
    is_open: ClassVar[bool] = False
    received: ClassVar[int] = 0

    def report(self) -> bytes:
        return self.data

    def finished(self) -> "FinishedReport":
        return self

    async def abandon(self) -> None:
        """Do nothing: there is no import."""


def render(
    name: str,
    status: Status,
    size: int,
    error: Exception | None,
    result: Loaded | None,
    kept: Sequence[str] = (),
) -> bytes:
    """Return the report about the file `name` as JSON; `size` is in bytes. `kept` are the images
    that were loaded from it before an error.
    """
    document: dict[str, Any] = {"file": name, "status": status.value, "bytes": size}
    if error is not None:
        document |= _error_fields(error)
        if kept:
            document["kept"] = list(kept)
    if result is not None:
        document |= _result_fields(result)
    return _escaped(go_json.dumps_indented(document).decode()).encode() + b"\n"


def render_directory(
    name: str,
    status: Status,
    error: Exception | None,
    result: Loaded,
    missing: Sequence[str],
) -> bytes:
    """Return the report about the directory `name` as JSON; `missing` are the paths in it that
    images wait for, of which the first _MISSING_LISTED are listed.
    """
    document: dict[str, Any] = {"directory": name, "status": status.value}
    if error is not None:
        document |= _error_fields(error)
    if missing:
        document |= {"missing_files": len(missing), "missing": list(missing[:_MISSING_LISTED])}
    if result.images:
        document |= _result_fields(result)
    return _escaped(go_json.dumps_indented(document).decode()).encode() + b"\n"


def names_of(loaded: Loaded) -> tuple[str, ...]:
    """Return the names of the images of a load, and the digests of those without one."""
    return tuple(name for image in loaded.images for name in image.names or (image.target,))


def sentence(error: Exception) -> str:
    """Return an error's message, for an OSError without its number."""
    return error.strerror or str(error) if isinstance(error, OSError) else str(error)


def _error_fields(error: Exception) -> dict[str, str]:
    fields = {"error": sentence(error)}
    for field in ("member", "subject", "expected", "found"):
        if hasattr(error, field):
            fields[field] = str(getattr(error, field))[:_FIELD_LIMIT]
    return fields


def _result_fields(result: Loaded) -> dict[str, Any]:
    images = [
        {
            "names": list(image.names),
            "digest": image.target,
            "id": image.id,
            "platforms": list(image.platforms),
            "missing": list(image.missing),
            "missing_platforms": list(image.missing_platforms),
        }
        for image in result.images
    ]
    return {
        "images": images,
        "left_out": [{"name": one.name, "reason": one.reason} for one in result.left_out],
        "new_blobs": result.new_blobs,
        "new_bytes": result.new_bytes,
    }


def _escaped(text: str) -> str:
    """Escape the unprintable characters of JSON text, so that a terminal can show it."""
    return "".join(c if c.isprintable() or c == "\n" else json.dumps(c)[1:-1] for c in text)

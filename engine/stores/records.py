"""The values that stores exchange with their callers: events, leases and garbage."""

from collections.abc import Mapping
from typing import Final

import msgspec

EVENTS_KEPT: Final = 10_000
"""Events that a store remembers, the last ones."""
LONGEST: Final = 0.5
"""Seconds for which a change of names waits for a `NameLock` at most."""


class Lease(msgspec.Struct, frozen=True):
    """A promise that blobs are not collected while its process holds it. `created_at` is in seconds
    since the epoch.
    """

    id: str
    created_at: float
    labels: Mapping[str, str]


class Event(msgspec.Struct, frozen=True):
    """A change to an image, in the terms of `docker events`.

    `action` is load, load-failed, save, commit, tag, untag, delete or gc; `target` the digest of
    what the image's name stands for, `name` a full name (of a load that failed, the file's), each
    "" where there is none; `time_ns` is nanoseconds since the epoch, `reclaimed` the bytes that a
    gc has freed, `error` why a load failed. Numbers only grow.
    """

    number: int
    time_ns: int
    action: str
    target: str
    name: str
    reclaimed: int | None = None
    error: str | None = None

    def render(self) -> bytes:
        """Return a line of JSON with the fields of `docker events --format json`."""
        from engine.spec import go_json  # most callers render none
        from engine.units import NS_PER_SECOND

        attributes = {"name": self.name} if self.name else {}
        if self.reclaimed is not None:
            attributes["reclaimed"] = str(self.reclaimed)
        if self.error is not None:
            attributes["error"] = self.error
        document = {
            "Type": "image",
            "Action": self.action,
            "Actor": {"ID": self.target, "Attributes": attributes},
            "scope": "local",
            "time": self.time_ns // NS_PER_SECOND,
            "timeNano": self.time_ns,
        }
        return go_json.dumps(document) + b"\n"


class Garbage(msgspec.Struct, frozen=True):
    """Something that nothing needs, and why. `kind` is blob, file (without a row), ingest or lease;
    `size` is in bytes.
    """

    kind: str
    name: str
    size: int
    reason: str

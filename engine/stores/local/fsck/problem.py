"""What a check finds."""

from collections.abc import Mapping
from enum import StrEnum

import msgspec

from engine.content.protocols import NO_LABELS
from engine.spec.oci import Descriptor


class Kind(StrEnum):
    """What is wrong."""

    DATABASE = "database"
    LOST = "lost blob"
    DAMAGED = "damaged blob"
    MODE = "mode"
    LABEL = "label"
    UNKNOWN = "unknown blob"
    BROKEN = "broken file"
    STRAY = "stray file"
    IMAGE = "image"
    RECORD = "record"
    LAYER = "layer"
    NAMELESS = "nameless image"

    @property
    def is_damage(self) -> bool:
        """Whether an image has lost something by it."""
        return self in (Kind.LOST, Kind.DAMAGED, Kind.IMAGE, Kind.LAYER)

    @property
    def is_rubbish(self) -> bool:
        """Whether it harms nobody: something that an interrupted command has left."""
        return self in (Kind.UNKNOWN, Kind.BROKEN, Kind.STRAY)


class Problem(msgspec.Struct, frozen=True):
    """Something that is not as it should be: `subject` is a digest, a name or a path; `images` are
    the familiar names of the images that have it; `labels` are those that a blob should have,
    `target` is what an image should stand for.
    """

    kind: Kind
    subject: str
    text: str
    images: tuple[str, ...] = ()
    labels: Mapping[str, str] = NO_LABELS
    target: Descriptor | None = None


class Unverified(msgspec.Struct, frozen=True):
    """A layer that is what its digest says, and that nobody here can compare with its diff ID;
    `reason` says why. `images` are the familiar names of the images that have it.
    """

    digest: str
    reason: str
    images: tuple[str, ...]

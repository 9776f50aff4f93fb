"""The results of a check."""

from collections.abc import Mapping
from enum import StrEnum

import msgspec

from engine.content.protocols import NO_LABELS
from engine.errors import InvalidReference
from engine.image import Image
from engine.spec.oci import Descriptor
from engine.stores.local.fsck.file_version import FileVersion


class Kind(StrEnum):
    """The kinds of problems."""

    DATABASE = "database"
    LOST = "lost blob"
    DAMAGED = "damaged blob"
    MODE = "mode"
    SIZE = "size"
    LABEL = "label"
    UNKNOWN = "unknown blob"
    BROKEN = "broken file"
    STRAY = "stray file"
    IMAGE = "image"
    RECORD = "record"
    EVENT = "event"
    LEASE = "row of lease"
    LAYER = "layer"
    TABLE = "table of layer"
    NAMELESS = "nameless image"

    @property
    def is_damage(self) -> bool:
        """Whether an image has lost content."""
        return self in (Kind.LOST, Kind.DAMAGED, Kind.IMAGE, Kind.LAYER)

    @property
    def is_rubbish(self) -> bool:
        """Whether it is harmless: a remainder of an interrupted command, or made anew if needed."""
        return self in (Kind.UNKNOWN, Kind.BROKEN, Kind.STRAY, Kind.TABLE)


class Problem(msgspec.Struct, frozen=True):
    """A problem of a store.

    `subject` is a digest, a name, a path or the number of a row; `images` are the familiar names of
    the images concerned; `labels` are the labels that a blob should have; `target` is the correct
    target of an image; `file` is the file of a blob as it was judged, None if it was absent.
    """

    kind: Kind
    subject: str
    text: str
    images: tuple[str, ...] = ()
    labels: Mapping[str, str] = NO_LABELS
    target: Descriptor | None = None
    file: FileVersion | None = None


class Unverified(msgspec.Struct, frozen=True):
    """A layer that matches its digest but cannot be compared with its diff ID.

    `reason` explains why; `images` are the familiar names of the images that have it.
    """

    digest: str
    reason: str
    images: tuple[str, ...]


def shown_name(image: Image) -> str:
    """Return the familiar name of an image, or the stored one if damage has made it invalid."""
    try:
        return image.familiar
    except InvalidReference:
        return image.name

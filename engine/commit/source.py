"""What an image is made of: directories, and the image they stand on."""

from collections.abc import Callable
from pathlib import Path

import msgspec

from engine.commit.annotations import Annotation
from engine.commit.history import LayerNote
from engine.compression.options import Compression
from engine.errors import InvalidReference
from engine.spec import reference
from engine.spec.oci import Platform

Progress = Callable[[str, int], None]
"""Hears of each step as it begins ("exporting layers", "naming to …"), and of the bytes that have
been read in it so far. One thread calls it at a time.
"""


class Ref(msgspec.Struct, frozen=True):
    """A directory that becomes a layer, or several one above the other: `parent` is below.

    The lowest directory is compared with the base image where there is one, each other with its
    parent. `created` is RFC 3339 text, "" for none.
    """

    directory: Path
    parent: "Ref | None" = None
    description: str = ""
    created: str = ""

    @property
    def chain(self) -> tuple["Ref", ...]:
        """This and all that is below it, the lowest first."""
        below = self.parent.chain if self.parent else ()
        return (*below, self)


class Upper(Ref, frozen=True):
    """A directory that is an overlayfs upper directory: it says itself what has changed."""


class PlatformSource(msgspec.Struct, frozen=True):
    """What the image is made of for one platform; None for the base image's, or this host's.

    Without a ref it has the base image's layers and no others. `config` takes the place of the base
    image's, or of the default one. `inline_cache` is BuildKit's, `statements` are in-toto's.
    """

    platform: Platform | None = None
    ref: Ref | None = None
    config: bytes = b""
    inline_cache: bytes | None = None
    statements: tuple[bytes, ...] = ()


class Source(msgspec.Struct, frozen=True):
    """What an image is made of; `base` is the name of the image below, if there is one."""

    platforms: tuple[PlatformSource, ...]
    base: str = ""


class CommitOptions(msgspec.Struct, frozen=True):
    """How it is made.

    `recompresses_base` compresses the base image's layers as the new ones, `keeps_foreign` leaves
    those of its layers that may not be distributed as they are. `created` is RFC 3339 text; `epoch`
    is SOURCE_DATE_EPOCH in seconds, which clamps the times of files too if `rewrites_times`.
    `note` is what the history says of a layer where neither its ref nor `message` says it, or where
    the base image has no entry for it.
    """

    compression: Compression = msgspec.field(default_factory=Compression)
    recompresses_base: bool = False
    keeps_foreign: bool = False
    is_oci: bool = True
    keep_empty_layers: bool = False
    created: str = ""
    epoch: int | None = None
    rewrites_times: bool = False
    annotations: tuple[Annotation, ...] = ()
    instructions: tuple[str, ...] = ()
    message: str = ""
    author: str = ""
    note: LayerNote = LayerNote()


def parse_names(text: str) -> tuple[str, ...]:
    """Names, comma-separated, in full; InvalidReference."""
    names = []
    for name in filter(None, text.split(",")):
        ref = reference.tag_name_only(reference.parse_normalized(name))
        if ref.digest is not None:
            raise InvalidReference(name, "digest", "an image that is made cannot choose its digest")
        names.append(str(ref))
    return tuple(dict.fromkeys(names))

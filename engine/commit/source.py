"""The input of a commit: directories, the base image, and the options."""

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
"""A callback for each step at its beginning ("exporting layers", "naming to …") and for the number
of bytes read in it so far. It is called by one thread at a time.
"""


class Ref(msgspec.Struct, frozen=True):
    """A directory that becomes a layer, above the one of `parent`, if any.

    The lowest directory is compared with the base image if there is one, each other one with its
    parent. `created` is RFC 3339 text, or "".
    """

    directory: Path
    parent: "Ref | None" = None
    description: str = ""
    created: str = ""

    @property
    def chain(self) -> tuple["Ref", ...]:
        """The refs from the lowest parent to this one."""
        below = self.parent.chain if self.parent else ()
        return (*below, self)


class Upper(Ref, frozen=True):
    """An overlayfs upper directory, which holds its changes itself."""


class RootArchive(msgspec.Struct, frozen=True):
    """A tar of a whole root, compressed or not, that becomes the only layer, byte for byte.

    `read` returns the next bytes of it, at most so many, and b"" at its end. `created` is RFC 3339
    text, or "".
    """

    read: Callable[[int], bytes]
    description: str = ""
    created: str = ""


class Step(msgspec.Struct, frozen=True):
    """A step that makes no layer: an entry of the history. `created` is RFC 3339 text, or ""."""

    description: str = ""
    created: str = ""


class PlatformSource(msgspec.Struct, frozen=True):
    """The source of the image for one platform; None is that of the base image, or of this host.

    Without a ref or an archive, the layers are those of the base image, and `step` can be the
    history entry of the change. `config` replaces the config of the base image, or the default one.
    `inline_cache` is BuildKit's; `statements` are in-toto statements.
    """

    platform: Platform | None = None
    ref: Ref | None = None
    config: bytes = b""
    inline_cache: bytes | None = None
    statements: tuple[bytes, ...] = ()
    archive: RootArchive | None = None
    step: Step | None = None


class Source(msgspec.Struct, frozen=True):
    """The source of an image; `base` is the name of the base image, or ""."""

    platforms: tuple[PlatformSource, ...]
    base: str = ""


class CommitOptions(msgspec.Struct, frozen=True):
    """The options of a commit.

    `recompresses_base` converts the layers of the base image to `compression`; `keeps_foreign`
    keeps its non-distributable layers unchanged. `created` is RFC 3339 text; `epoch` is
    SOURCE_DATE_EPOCH in seconds since 1970, which also clamps the times of files if
    `rewrites_times`. `note` is the history entry of a layer for which neither its ref nor `message`
    has one, or of a layer of the base image without an entry.
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
    """Parse comma-separated names; return full names; raise InvalidReference."""
    names = []
    for name in filter(None, text.split(",")):
        ref = reference.tag_name_only(reference.parse_normalized(name))
        if ref.digest is not None:
            raise InvalidReference(name, "digest", "an image that is made cannot choose its digest")
        names.append(str(ref))
    return tuple(dict.fromkeys(names))

"""What an image is made of: directories, and the image they stand on."""

from dataclasses import dataclass, field
from pathlib import Path

from engine.commit.compression import Compression
from engine.commit.image_writer import Annotations
from engine.oci import Platform


@dataclass(frozen=True, slots=True)
class Ref:
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


@dataclass(frozen=True, slots=True)
class Upper(Ref):
    """A directory that is an overlayfs upper directory: it says itself what has changed."""


@dataclass(frozen=True, slots=True)
class Source:
    """What an image is made of, a ref for each platform; `base` is the name of the image below.

    `config` takes the place of the base image's, or of the default one.
    """

    refs: tuple[tuple[Platform | None, Ref], ...]
    base: str = ""
    config: bytes = b""


@dataclass(frozen=True, slots=True)
class CommitOptions:
    """How it is made. `created` is RFC 3339 text; `epoch` is SOURCE_DATE_EPOCH in seconds, which
    clamps the times of files too if `rewrites_times`.
    """

    compression: Compression = field(default_factory=Compression)
    is_oci: bool = True
    keep_empty_layers: bool = False
    created: str = ""
    epoch: int | None = None
    rewrites_times: bool = False
    annotations: Annotations = field(default_factory=Annotations)
    instructions: tuple[str, ...] = ()
    message: str = ""
    author: str = ""

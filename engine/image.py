"""Images as values: a name and its target, what is below the target, and its place in the tree."""

import zlib
from collections.abc import Mapping
from typing import TypeVar

import msgspec

from engine.errors import InvalidDocument, InvalidReference
from engine.spec import reference
from engine.spec.descriptor import Descriptor
from engine.spec.digest import ALGORITHMS, of_bytes

ARCHIVE_FILES = frozenset({"blobs", "index.json", "manifest.json", "oci-layout"})
"""What stands in an archive's root."""


PARENT_LABEL = "imgfs.parent"
"""On an image: the ID of the one that it was built upon, as docker's `manifest.json` tells it."""


T = TypeVar("T")


class Image(msgspec.Struct, frozen=True):
    """A name and what it stands for; times are seconds since the epoch."""

    name: str
    target: Descriptor
    labels: Mapping[str, str] = msgspec.field(default_factory=dict)
    created_at: float = 0.0
    updated_at: float = 0.0

    @property
    def is_untagged(self) -> bool:
        return self.name == self.target.digest

    @property
    def familiar(self) -> str:
        """The name as docker prints it."""
        return self.name if self.is_untagged else reference.parse_normalized(self.name).familiar


class ManifestSummary(msgspec.Struct, frozen=True):
    """An image manifest below a target; `size` is in bytes, of the manifest, its config and its
    layers.
    """

    digest: str
    config: str
    platform: str
    size: int


class Summary(msgspec.Struct, frozen=True):
    """What is below a target: every blob that the store holds, the complete image manifests in
    order, and the blobs that the store lacks, sorted.

    `created` is the image's own time in whole seconds since the epoch, 0 if it has none.
    """

    created: int
    blobs: tuple[str, ...]
    manifests: tuple[ManifestSummary, ...]
    missing: tuple[str, ...] = ()

    @property
    def revision(self) -> int:
        """A number that is the same wherever the same blobs are held."""
        return int(of_bytes("\n".join(sorted(self.blobs)).encode()).encoded[:12], 16)


class Target(msgspec.Struct, frozen=True):
    """What is known of a target; `revision` is new whenever what is held of it changes."""

    digest: str
    revision: int
    created: int


class TreeEntry(msgspec.Struct, frozen=True, gc=False):
    """An image in the tree of directories; `target` is its descriptor as JSON.

    Two that are equal show the same files, byte for byte.
    """

    path: str
    name: str
    target: str
    revision: int
    created: int

    @property
    def key(self) -> str:
        """A text that tells it from every other."""
        return f"{self.path}\n{self.name}\n{self.target}\n{self.revision}"

    @property
    def number(self) -> int:
        """A number of 63 bits that hardly another place has, and cheap where there are many."""
        return zlib.crc32(self.path.encode(errors="surrogateescape")) << 31 ^ self.revision

    @property
    def image(self) -> Image:
        return Image(self.name, _decode(self.target, Descriptor, self.name))


def path_of(name: str) -> str:
    """Where an image stands in a tree of directories: its familiar name, or its full one where that
    would collide.

    It would with `import/`, with a registry on this host, with a digest, or with an archive's own
    files in a repository's directory.
    """
    if name.startswith(("sha256:", "sha384:", "sha512:")):
        return name
    ref = reference.parse_normalized(name)
    familiar = ref.familiar
    first, *rest = ref.familiar_name.split("/")
    collides = (
        first == "import"
        or (first == "localhost" and not rest and (ref.tag or "").isdigit())
        or any(part in ARCHIVE_FILES for part in rest)
    )
    if collides or str(reference.parse_normalized(familiar)) != name:
        return name
    return familiar


def check_name(name: str, target: str) -> None:
    """InvalidReference if an image of that target cannot be stored by this name.

    It must be full, with a tag or the target's own digest. As in moby no repository is called like
    a digest algorithm, since such a name is a digest's.
    """
    if name == target:
        return
    ref = reference.parse_normalized(name)
    if ref.is_name_only or str(ref) != name:
        raise InvalidReference(
            name, "not_full", "an image is stored by its full name with a tag or digest"
        )
    if ref.familiar_name in ALGORITHMS:
        raise InvalidReference(name, "name", f"no image is called {ref.familiar_name}")
    if ref.digest not in (None, target):
        raise InvalidReference(name, "digest", f"expected the digest {target}")


def _decode(text: str, type_: type[T], name: str) -> T:
    """What `_encode` has written; InvalidDocument for anything else."""
    try:
        return msgspec.json.decode(text, type=type_)
    except msgspec.MsgspecError as error:
        raise InvalidDocument(name, str(error)) from error

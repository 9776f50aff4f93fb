"""Images as values: names and targets, summaries of targets, and paths in the directory tree."""

import zlib
from collections.abc import Mapping
from typing import TypeVar

import msgspec

from engine.errors import InvalidDocument, InvalidReference
from engine.spec import reference
from engine.spec.descriptor import Descriptor
from engine.spec.digest import ALGORITHMS, of_bytes

ARCHIVE_FILES = frozenset({"blobs", "index.json", "manifest.json", "oci-layout"})
"""The names of the entries at the root of an archive."""
RESERVED = frozenset({"additional-layers", "import", "layers", "rootfs"})
"""The names in the root of a mount that stand for no image and no namespace."""


PARENT_LABEL = "imgfs.parent"
"""The label of an image that holds the ID of its parent image, as in docker's `manifest.json`."""


T = TypeVar("T")


class Image(msgspec.Struct, frozen=True):
    """A name and its target; times are in seconds since the epoch."""

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
        """The name in docker's familiar form."""
        return self.name if self.is_untagged else reference.parse_normalized(self.name).familiar


class ManifestSummary(msgspec.Struct, frozen=True):
    """An image manifest below a target; `size` is the bytes of the manifest, its config and its
    layers.
    """

    digest: str
    config: str
    platform: str
    size: int


class Summary(msgspec.Struct, frozen=True):
    """The content below a target: all stored blobs, the complete image manifests in order, and the
    missing blobs, sorted.

    `created` is the creation time of the image in whole seconds since the epoch, 0 if it has none.
    """

    created: int
    blobs: tuple[str, ...]
    manifests: tuple[ManifestSummary, ...]
    missing: tuple[str, ...] = ()

    @property
    def revision(self) -> int:
        """A number that is equal for equal sets of stored blobs."""
        return int(of_bytes("\n".join(sorted(self.blobs)).encode()).encoded[:12], 16)


class Target(msgspec.Struct, frozen=True):
    """A target; `revision` changes whenever the set of its stored blobs changes."""

    digest: str
    revision: int
    created: int


class TreeEntry(msgspec.Struct, frozen=True, gc=False):
    """An image in the directory tree; `target` is its descriptor as JSON.

    Equal entries show identical files.
    """

    path: str
    name: str
    target: str
    revision: int
    created: int

    @property
    def key(self) -> str:
        """A text that is unique to the entry."""
        return f"{self.path}\n{self.name}\n{self.target}\n{self.revision}"

    @property
    def number(self) -> int:
        """A number of 62 bits that is nearly unique to the entry and cheap to compute."""
        return zlib.crc32(self.path.encode(errors="surrogateescape")) << 30 ^ self.revision

    @property
    def image(self) -> Image:
        return Image(self.name, decode(self.target, Descriptor, self.name))


def path_of(name: str) -> str:
    """Return the path of an image in the directory tree: its familiar name, or the full one.

    The full name is used if the familiar one would collide with a name in RESERVED, a registry on
    this host, a digest, or an archive's own files in the directory of a repository.
    """
    if name.startswith(("sha256:", "sha384:", "sha512:")):
        return name
    ref = reference.parse_normalized(name)
    familiar = ref.familiar
    first, *rest = ref.familiar_name.split("/")
    collides = (
        first in RESERVED
        or (first == "localhost" and not rest and (ref.tag or "").isdigit())
        or any(part in ARCHIVE_FILES for part in rest)
    )
    if collides or str(reference.parse_normalized(familiar)) != name:
        return name
    return familiar


def check_name(name: str, target: str) -> None:
    """Raise InvalidReference if an image with that target cannot be stored by this name.

    The name must be full, with a tag or the digest of the target. As in moby, no repository has the
    name of a digest algorithm, since such a name would read as a digest.
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


def decode(text: str, type_: type[T], name: str) -> T:
    """Return the value of a JSON text; raise InvalidDocument if it does not have the type."""
    try:
        return msgspec.json.decode(text, type=type_)
    except msgspec.MsgspecError as error:
        raise InvalidDocument(name, str(error)) from error

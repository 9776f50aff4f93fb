"""What is found in an archive, whatever its format, and what must hold of each image."""

from collections.abc import Sequence

import msgspec

from engine import graph as walk
from engine.archive import file_types
from engine.archive.member_index import MemberIndex
from engine.content.blobs import read_blob
from engine.errors import (
    BrokenArchive,
    DigestMismatch,
    EngineError,
    InvalidDigest,
    InvalidDocument,
    LimitExceeded,
    MissingMember,
    counted,
)
from engine.layers.diff_ids import beginning, foreign_compression_of
from engine.spec import docker
from engine.spec import media_types as layer_types
from engine.spec.digest import Digest, parse
from engine.spec.oci import Descriptor
from engine.tar.header_decoder import BLOCK


class ArchiveImage(msgspec.Struct, frozen=True):
    """An image or artifact of an archive: its full names (none for an untagged one), the graph
    below its target, and the tag that it has without a name.
    """

    names: tuple[str, ...]
    graph: walk.Graph
    tag: str = ""


class LeftOut(msgspec.Struct, frozen=True):
    """What the archive names and cannot give; `name` is what it is called there, `reason` says why.

    `missing` is the member that is not there, "" where that is not the reason.
    """

    name: str
    reason: str
    missing: str = ""

    @classmethod
    def because(cls, name: str, error: EngineError) -> "LeftOut":
        """Return what is left out because of an error."""
        reason = str(error).removeprefix(f"{name}: ")
        return cls(name, reason, error.member if isinstance(error, MissingMember) else "")


class Inventory(msgspec.Struct, frozen=True):
    """What an archive holds, in its order, and what it names without holding it."""

    found: tuple[ArchiveImage, ...]
    left_out: tuple[LeftOut, ...] = ()

    def followed_by(self, other: "Inventory") -> "Inventory":
        """Return what this archive and one behind it in the same stream hold."""
        return Inventory(self.found + other.found, self.left_out + other.left_out)

    def check_end(self) -> None:
        """Raise MissingMember if something is missing that may have come after the archive's cut
        end.
        """
        for one in self.left_out:
            if one.missing:
                raise MissingMember(one.missing).by_truncation


def check_count(count: int, most: int) -> None:
    """LimitExceeded if these are too many images, or names of them."""
    if count > most:
        raise LimitExceeded("archive", "images", most, count)


def check_image(intake: MemberIndex, image: walk.ImageManifest) -> None:
    """Raise InvalidDocument for a config that docker could not read, and as `check_layers`."""
    subject = f"manifest {image.descriptor.digest}"
    config = image.manifest.config
    named = f"config {config.digest}"
    docker.check_config(read_blob(intake, config.digest, config.size, subject=named), named)
    if image.config is not None and image.needs_diff_ids:
        check_layers(intake, subject, image.config.rootfs.diff_ids, image.manifest.layers)


def check_layers(
    intake: MemberIndex, subject: str, diff_ids: Sequence[str], layers: Sequence[Descriptor]
) -> None:
    """As moby checks it: as many layers as diff IDs, and each layer's bytes are what its diff ID
    says, and begin as a tar archive does.

    `subject` names the image. Layers that are absent are left out, and so are those that cannot be
    uncompressed. InvalidDocument, DigestMismatch, BrokenArchive.
    """
    if len(layers) != len(diff_ids):
        raise InvalidDocument(
            subject,
            f"has {counted(len(diff_ids), 'diff ID')}: expected as many layers,"
            f" found {counted(len(layers), 'layer')}",
        )
    present = intake.sizes([layer.digest for layer in layers])
    for i, (layer, diff_id) in enumerate(zip(layers, diff_ids, strict=True)):
        if layer.digest not in present or layer_types.unreadable(layer.media_type):
            continue
        expected = _parsed(diff_id, f"diff ID {i} of {subject}")
        name = f"layer {i} of {subject} ({intake.stored_as(layer.digest)})"
        found = intake.diff_id(Digest(layer.digest), expected.algorithm)
        if found == expected:
            check_beginning(intake, layer.digest, name)
            continue
        with intake.open(layer.digest) as reader:
            if (kind := foreign_compression_of(reader)) != "none":
                raise BrokenArchive(
                    name, f"is compressed with {kind}: expected a plain layer, gzip or zstd"
                )
        raise DigestMismatch(name, expected, found)


def check_beginning(intake: MemberIndex, digest: str, name: str) -> None:
    """Raise BrokenArchive for a layer that does not begin as a tar archive does, and is not empty.

    `name` is what the sentence calls it. What is in its members is checked when they are applied.
    """
    with intake.open(digest) as layer:
        first = beginning(layer, BLOCK)
        if first.strip(b"\0") and not file_types.is_tar(first):
            what = file_types.identify(beginning(layer, file_types.SIZE))
            but = f" but {what.noun}" if what else ""
            raise BrokenArchive(name, f"is not a tar archive{but}, as a layer has to be")


def _parsed(digest: str, subject: str) -> Digest:
    try:
        return parse(digest)
    except InvalidDigest as error:
        raise InvalidDocument(subject, str(error)) from error

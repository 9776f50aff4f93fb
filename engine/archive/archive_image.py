"""The images that an archive of any format holds, and the checks that each image must pass.

`oci_archive`, `docker_archive` and `legacy_archive` return an `Inventory` and call the checks.
"""

from collections.abc import Sequence

import msgspec

from engine import graph as walk
from engine.archive import file_types, pooled_layers
from engine.archive.members import Members
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
    """An image or artifact of an archive.

    `names` are full names, none for an untagged image; `graph` is the graph below the target; `tag`
    is the tag of an image that has no name.
    """

    names: tuple[str, ...]
    graph: walk.Graph
    tag: str = ""


class LeftOut(msgspec.Struct, frozen=True):
    """An image that the archive names but that cannot be loaded.

    `name` is its name in the archive, and `reason` is a clause that explains the failure. `missing`
    are the names of the absent members, none if the reason is another one.
    """

    name: str
    reason: str
    missing: tuple[str, ...] = ()

    @classmethod
    def because(cls, name: str, error: EngineError) -> "LeftOut":
        """Return the record of an image that is left out because of `error`."""
        reason = str(error).removeprefix(f"{name}: ")
        missing = (error.member, *error.others) if isinstance(error, MissingMember) else ()
        return cls(name, reason, missing)


class Inventory(msgspec.Struct, frozen=True):
    """The images of an archive, in its order, and those that it names but that cannot be loaded."""

    found: tuple[ArchiveImage, ...]
    left_out: tuple[LeftOut, ...] = ()

    def followed_by(self, other: "Inventory") -> "Inventory":
        """Return the inventory of this archive and of `other`, which follows it in the stream."""
        return Inventory(self.found + other.found, self.left_out + other.left_out)

    def check_end(self) -> None:
        """Raise MissingMember if a member is missing, since the truncated part may have held it."""
        for one in self.left_out:
            if one.missing:
                raise MissingMember(one.missing[0]).by_truncation


def check_count(count: int, most: int) -> None:
    """Raise LimitExceeded if `count`, a number of images or names, is greater than `most`."""
    if count > most:
        raise LimitExceeded("archive", "images", most, count)


def check_image(members: Members, image: walk.ImageManifest) -> None:
    """Check the config and the layers of an image.

    Raise InvalidDocument for a config that docker could not read, and the errors of `check_layers`.
    """
    subject = f"manifest {image.descriptor.digest}"
    config = image.manifest.config
    named = f"config {config.digest}"

    def check() -> None:
        members.documents.note(config.size)
        docker.check_config(read_blob(members, config.digest, config.size, subject=named), named)

    members.documents.check_once(config.digest, check)
    if image.config is not None and image.needs_diff_ids:
        check_layers(members, subject, image.config.rootfs.diff_ids, image.manifest.layers)


def check_layers(
    members: Members, subject: str, diff_ids: Sequence[str], layers: Sequence[Descriptor]
) -> None:
    """Check layers as moby does: one for each diff ID, with that diff ID, and a tar archive.

    `subject` names the image. Absent layers and layers of an unreadable media type are skipped.
    Raise InvalidDocument if the numbers differ, DigestMismatch for a wrong diff ID, and
    BrokenArchive for a layer that is no tar archive or has a compression that OCI does not know.
    """
    if len(layers) != len(diff_ids):
        raise InvalidDocument(
            subject,
            f"has {counted(len(diff_ids), 'diff ID')}: expected as many layers,"
            f" found {counted(len(layers), 'layer')}",
        )
    present = members.sizes([layer.digest for layer in layers])
    for i, (layer, diff_id) in enumerate(zip(layers, diff_ids, strict=True)):
        if layer.digest not in present or layer_types.unreadable(layer.media_type):
            continue
        expected = _parsed(diff_id, f"diff ID {i} of {subject}")
        name = f"layer {i} of {subject} ({members.pool.called(layer.digest)})"
        found = pooled_layers.diff_id(members.pool, Digest(layer.digest), expected.algorithm)
        if found == expected:
            check_beginning(members, layer.digest, name)
            continue
        with members.open(layer.digest) as reader:
            if (kind := foreign_compression_of(reader)) != "none":
                raise BrokenArchive(
                    name, f"is compressed with {kind}: expected a plain layer, gzip or zstd"
                )
        raise DigestMismatch(name, expected, found)


def check_beginning(members: Members, digest: str, name: str) -> None:
    """Raise BrokenArchive for a layer that is not empty and does not begin with a tar header.

    `name` is the name of the layer in the message. The members are checked when the layer is
    applied.
    """
    with members.open(digest) as layer:
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

"""One image in the form that docker save writes: a new manifest for it, and its blobs."""

from collections.abc import Callable, Iterator
from typing import Final

import msgspec

from engine.content.blobs import read_blob
from engine.errors import InvalidDigest, InvalidDocument, NotExportable
from engine.graph import Blobs, ImageManifest
from engine.layouts.entry import Decompressed, Entry
from engine.spec import digest as digests
from engine.spec import media_types as layer_types
from engine.spec import oci, rfc3339
from engine.spec import v1_configs as v1_image
from engine.spec.digest import Digest
from engine.spec.oci import Descriptor, ImageConfig
from engine.units import NS_PER_SECOND

_OS: Final = "linux"
_LATEST: Final = (2**63 - 1) // NS_PER_SECOND
"""The last second that a file time can have in Go; later times become 1970."""


class Layer(msgspec.Struct, frozen=True):
    """A layer in the new manifest; `entry` is None for a foreign layer that is not stored."""

    diff_id: Digest
    descriptor: Descriptor
    entry: Entry | None


class DockerImage(msgspec.Struct, frozen=True):
    """An image with its new manifest; `id` is the digest of its config, `mtime` is in seconds."""

    id: Digest
    mtime: int
    manifest: Descriptor
    layers: tuple[Layer, ...]
    blobs: tuple[Entry, ...]


def docker_image(
    name: str, image: ImageManifest, blobs: Blobs, uncompressed_size: Callable[[str], int]
) -> DockerImage:
    """Return the image `name` with uncompressed layers, its v1 configs and a new manifest.

    Raise NotExportable if it has no layers, layers that cannot be decompressed, or an OS other than
    docker's; InvalidDocument if docker could not read its config, or if the config does not have
    one diff ID per layer.
    """
    config = image.manifest.config
    image_id, subject = Digest(config.digest), f"config {config.digest}"
    raw = read_blob(blobs, image_id, config.size, subject=subject)
    parsed = oci.parse_config(raw, subject)
    _check(name, parsed)
    mtime = rfc3339.epoch_seconds(parsed.created)
    mtime = mtime if mtime <= _LATEST else 0
    layers = tuple(
        _layer(layer, diff_id, mtime, blobs, uncompressed_size)
        for layer, diff_id in _layers(name, image, parsed, subject)
    )
    manifest = oci.render(
        oci.Manifest(
            schema_version=2,
            media_type=oci.MANIFEST,
            config=Descriptor(oci.CONFIG, image_id, len(raw)),
            layers=tuple(layer.descriptor for layer in layers),
        )
    )
    v1_configs = v1_image.configs(raw, parsed.rootfs.diff_ids, subject)
    return DockerImage(
        image_id,
        mtime,
        Descriptor(oci.MANIFEST, digests.of_bytes(manifest), len(manifest)),
        layers,
        (
            *(layer.entry for layer in layers if layer.entry is not None),
            *(_document(v1_config, mtime) for v1_config in v1_configs),
            _entry(image_id, mtime, len(raw), image_id, oci.CONFIG),
            _document(manifest, 0),
        ),
    )


def _check(name: str, config: ImageConfig) -> None:
    system = config.os or _OS
    if system.lower() != _OS:
        raise NotExportable(name, f"expected an image for {_OS}, found one for {system}")
    if not config.rootfs.diff_ids:
        raise NotExportable(name, "has no layers, and docker saves none such")


def _layers(
    name: str, image: ImageManifest, config: ImageConfig, subject: str
) -> Iterator[tuple[Descriptor, Digest]]:
    layers, diff_ids = image.manifest.layers, config.rootfs.diff_ids
    if len(layers) != len(diff_ids):
        reason = f"expected as many diff IDs as layers ({len(layers)}), found {len(diff_ids)}"
        raise InvalidDocument(subject, reason)
    for layer, diff_id in zip(layers, diff_ids, strict=True):
        if reason := layer_types.unreadable(layer.media_type):
            raise NotExportable(name, f"layer {layer.digest} {reason}, and docker saves none such")
        try:
            yield layer, digests.parse(diff_id)
        except InvalidDigest as error:
            raise InvalidDocument(subject, str(error)) from error


def _layer(
    layer: Descriptor,
    diff_id: Digest,
    mtime: int,
    blobs: Blobs,
    uncompressed_size: Callable[[str], int],
) -> Layer:
    if oci.is_nondistributable(layer.media_type) and not blobs.sizes([layer.digest]):
        return Layer(diff_id, layer, None)
    content: Digest | Decompressed = diff_id
    size = layer.size
    if layer.digest != diff_id:
        content = Decompressed(Digest(layer.digest), diff_id)
        size = uncompressed_size(layer.digest)
    return Layer(
        diff_id,
        Descriptor(oci.LAYER, diff_id, size),
        _entry(diff_id, mtime, size, content, oci.LAYER),
    )


def _entry(
    digest: Digest, mtime: int, size: int, content: Digest | Decompressed, media_type: str
) -> Entry:
    return Entry(Entry.blob_path(digest), 0o644, mtime, size, content, media_type)


def _document(data: bytes, mtime: int) -> Entry:
    return Entry.file(Entry.blob_path(digests.of_bytes(data)), 0o644, mtime, data)

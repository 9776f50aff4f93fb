"""The documents and media types of the OCI image-spec, and Docker's equivalents.

`parse_*` turns bytes into typed values and `render` turns values into bytes, without input or
output. Fields are in the order of Go's ocispec, and a field with a default is omitted when empty. A
parsed document is never rendered again, since its bytes determine its digest. An ImageConfig is for
reading only.

The media type predicates follow containerd's core/images. All values are frozen and all functions
pure.
"""

import base64
import binascii
from typing import Any, Final

import msgspec

from engine.errors import InvalidDigest, InvalidDocument
from engine.spec import digest, go_json, rfc3339
from engine.spec.descriptor import Descriptor as Descriptor
from engine.spec.descriptor import Int64 as Int64
from engine.spec.descriptor import Platform as Platform

# --- media types ---

MANIFEST: Final = "application/vnd.oci.image.manifest.v1+json"
INDEX: Final = "application/vnd.oci.image.index.v1+json"
CONFIG: Final = "application/vnd.oci.image.config.v1+json"
EMPTY: Final = "application/vnd.oci.empty.v1+json"
LAYER: Final = "application/vnd.oci.image.layer.v1.tar"
LAYER_GZIP: Final = LAYER + "+gzip"
LAYER_ZSTD: Final = LAYER + "+zstd"
LAYER_NONDISTRIBUTABLE: Final = "application/vnd.oci.image.layer.nondistributable.v1.tar"
LAYER_NONDISTRIBUTABLE_GZIP: Final = LAYER_NONDISTRIBUTABLE + "+gzip"
LAYER_NONDISTRIBUTABLE_ZSTD: Final = LAYER_NONDISTRIBUTABLE + "+zstd"

DOCKER_MANIFEST: Final = "application/vnd.docker.distribution.manifest.v2+json"
DOCKER_MANIFEST_LIST: Final = "application/vnd.docker.distribution.manifest.list.v2+json"
DOCKER_CONFIG: Final = "application/vnd.docker.container.image.v1+json"
DOCKER_LAYER: Final = "application/vnd.docker.image.rootfs.diff.tar"
DOCKER_LAYER_GZIP: Final = DOCKER_LAYER + ".gzip"
DOCKER_LAYER_ZSTD: Final = DOCKER_LAYER + ".zstd"
DOCKER_FOREIGN_LAYER: Final = "application/vnd.docker.image.rootfs.foreign.diff.tar"
DOCKER_FOREIGN_LAYER_GZIP: Final = DOCKER_FOREIGN_LAYER + ".gzip"

IN_TOTO: Final = "application/vnd.in-toto+json"

# --- annotations ---

REF_NAME: Final = "org.opencontainers.image.ref.name"
IMAGE_NAME: Final = "io.containerd.image.name"
REFERENCE_TYPE: Final = "vnd.docker.reference.type"
REFERENCE_DIGEST: Final = "vnd.docker.reference.digest"
ATTESTATION_MANIFEST: Final = "attestation-manifest"

LAYOUT_FILE: Final = "oci-layout"
INDEX_FILE: Final = "index.json"
LAYOUT_VERSION: Final = "1.0.0"

DOCKER_SCHEMA1: Final = "application/vnd.docker.distribution.manifest.v1+prettyjws"


class Manifest(msgspec.Struct, frozen=True, rename="camel", kw_only=True):
    """The config and the layers, lowest first, of one image for one platform."""

    schema_version: Int64
    media_type: str = ""
    artifact_type: str = ""
    config: Descriptor
    layers: tuple[Descriptor, ...]
    subject: Descriptor | None = None
    annotations: dict[str, str] = {}


class Index(msgspec.Struct, frozen=True, rename="camel", kw_only=True):
    """Manifests and nested indexes, in the order of preference."""

    schema_version: Int64
    media_type: str = ""
    artifact_type: str = ""
    manifests: tuple[Descriptor, ...]
    subject: Descriptor | None = None
    annotations: dict[str, str] = {}


class ImageLayout(msgspec.Struct, frozen=True, rename="camel"):
    """The `oci-layout` file."""

    image_layout_version: str


class RootFS(msgspec.Struct, frozen=True):
    """The digests of the uncompressed layers, lowest first."""

    type: str
    diff_ids: tuple[str, ...]


class History(msgspec.Struct, frozen=True):
    """The origin of a layer; `empty_layer` is True for an entry without a layer."""

    created: str = ""
    created_by: str = ""
    author: str = ""
    comment: str = ""
    empty_layer: bool = False


class ImageConfig(msgspec.Struct, frozen=True, kw_only=True):
    """The fields of an image config that the engine reads; `config` is not interpreted."""

    created: str = ""
    author: str = ""
    architecture: str
    os: str
    os_version: str = msgspec.field(default="", name="os.version")
    os_features: tuple[str, ...] = msgspec.field(default=(), name="os.features")
    variant: str = ""
    config: dict[str, Any] = {}
    rootfs: RootFS
    history: tuple[History, ...] = ()

    @property
    def platform(self) -> Platform:
        """The platform that the config names, not normalized."""
        return Platform(self.architecture, self.os, self.os_version, self.os_features, self.variant)


# --- reading and writing documents ---


def render(value: msgspec.Struct) -> bytes:
    """Return a document of this module as Go writes it: compact, without a final newline."""
    return go_json.dumps(value)


def parse_manifest(data: bytes, subject: str) -> Manifest:
    """Return a manifest with valid descriptors; raise InvalidDocument, which names `subject`."""
    manifest = go_json.decode(data, Manifest, subject)
    _check_all((manifest.config, *manifest.layers), manifest.subject, subject)
    return manifest


def parse_index(data: bytes, subject: str) -> Index:
    """Return an index with valid descriptors; raise InvalidDocument, which names `subject`."""
    index = go_json.decode(data, Index, subject)
    _check_all(index.manifests, index.subject, subject)
    return index


def parse_config(data: bytes, subject: str) -> ImageConfig:
    """Return an image config; raise InvalidDocument, which names `subject`.

    Platform, times and diff IDs are as recorded, or empty.
    """
    return go_json.decode(data, ImageConfig, subject)


def check_times(data: bytes, subject: str) -> None:
    """Raise InvalidDocument for an invalid or empty time in an image config."""
    found = go_json.decode(data, _Times, subject)
    times = {"created": found.created}
    times |= {f"history[{n}].created": entry.created for n, entry in enumerate(found.history)}
    for field, text in times.items():
        try:
            if text is not None:
                rfc3339.normalize(text)
        except ValueError as error:
            raise InvalidDocument(subject, f"{field}: {error}") from error


class _Dated(msgspec.Struct, frozen=True):
    created: str | None = None


class _Times(_Dated, frozen=True):
    history: tuple[_Dated, ...] = ()


def check_descriptor(descriptor: Descriptor, subject: str) -> Descriptor:
    """Return `descriptor`; raise InvalidDocument if its digest, size or data is invalid."""
    try:
        digest.parse(descriptor.digest)
        base64.b64decode(descriptor.data.translate(_NEWLINES), validate=True)
    except InvalidDigest as error:
        raise InvalidDocument(subject, f"a descriptor has an {error}") from error
    except (binascii.Error, ValueError) as error:
        reason = f"the descriptor of {descriptor.digest} has data that is not base64"
        raise InvalidDocument(subject, reason) from error
    if descriptor.size < 0:
        reason = f"the descriptor of {descriptor.digest} has the negative size {descriptor.size}"
        raise InvalidDocument(subject, reason)
    return descriptor


_NEWLINES: Final = {ord("\r"): None, ord("\n"): None}


def _check_all(
    descriptors: tuple[Descriptor, ...], referred: Descriptor | None, subject: str
) -> None:
    for descriptor in descriptors if referred is None else (*descriptors, referred):
        check_descriptor(descriptor, subject)


class _Unknown(msgspec.Struct, rename="camel"):
    """The members that distinguish a manifest from an index; null and empty ones are present."""

    media_type: str = ""
    config: Any = msgspec.UNSET
    layers: Any = msgspec.UNSET
    manifests: Any = msgspec.UNSET
    fs_layers: Any = msgspec.UNSET


def validate_media_type(data: bytes, media_type: str, subject: str) -> None:
    """Raise InvalidDocument for anything but JSON, a schema 1 manifest, or a manifest that is an
    index.

    As in containerd, a manifest must not have `manifests` or the media type of an index, and an
    index must not have `config` or `layers` or the media type of a manifest, whatever their values;
    a blob of another media type may have both. The error names `subject`.
    """
    value = go_json.loads(data, subject)
    found = go_json.convert({} if value is None else value, _Unknown, subject)
    if found.fs_layers is not msgspec.UNSET:
        raise InvalidDocument(subject, "it is a schema 1 manifest, which is not supported")
    has_manifest = found.config is not msgspec.UNSET or found.layers is not msgspec.UNSET
    has_index = found.manifests is not msgspec.UNSET
    if is_manifest_type(media_type) and (has_index or is_index_type(found.media_type)):
        raise InvalidDocument(subject, f"expected a manifest ({media_type}), found an index")
    if is_index_type(media_type) and (has_manifest or is_manifest_type(found.media_type)):
        raise InvalidDocument(subject, f"expected an index ({media_type}), found a manifest")


def own_media_type(data: bytes, subject: str) -> str:
    """Return the media type that a manifest or index declares, else the OCI type that its members
    imply.

    Return "" for any other document; raise InvalidDocument if it is not JSON.
    """
    found = go_json.convert(go_json.loads(data, subject), _Unknown, subject)
    if is_document_type(found.media_type):
        return found.media_type
    if found.manifests is not msgspec.UNSET:
        return INDEX
    return MANIFEST if msgspec.UNSET not in (found.config, found.layers) else ""


# --- what a media type says ---


def is_manifest_type(media_type: str) -> bool:
    """Return whether it is the type of an image manifest (schema 1 is not)."""
    return media_type in (MANIFEST, DOCKER_MANIFEST)


def is_index_type(media_type: str) -> bool:
    """Return whether it is the type of an image index or a Docker manifest list."""
    return media_type in (INDEX, DOCKER_MANIFEST_LIST)


def is_document_type(media_type: str) -> bool:
    """Return whether it is the type of a manifest or of an index."""
    return is_manifest_type(media_type) or is_index_type(media_type)


def is_config_type(media_type: str) -> bool:
    """Return whether it is the type of an image config."""
    return media_type in (CONFIG, DOCKER_CONFIG)


def is_layer_type(media_type: str) -> bool:
    """Return whether it is the type of a layer, of any compression or wrapping, or of EROFS."""
    return media_type.startswith("application/vnd.oci.image.layer.") or _base(media_type) in (
        DOCKER_LAYER,
        DOCKER_LAYER_GZIP,
        DOCKER_LAYER_ZSTD,
        DOCKER_FOREIGN_LAYER,
        DOCKER_FOREIGN_LAYER_GZIP,
        "application/vnd.erofs",
        "application/vnd.erofs.layer.v1",
        "application/vnd.erofs.chunk-index.v1",
    )


def is_nondistributable(media_type: str) -> bool:
    """Return whether it is the type of a layer that is fetched from its `urls` and not pushed."""
    return media_type.startswith(
        (
            "application/vnd.oci.image.layer.nondistributable.",
            "application/vnd.docker.image.rootfs.foreign.",
        )
    )


def is_attestation(descriptor: Descriptor) -> bool:
    """Return whether an index entry is BuildKit's attestation of another entry."""
    return descriptor.annotations.get(REFERENCE_TYPE) == ATTESTATION_MANIFEST


def layer_compression(media_type: str) -> str | None:
    """Return the compression that the media type of a layer declares: "gzip", "zstd" or "" (none).

    Return None for a media type of no tar layer, and "unknown" for Docker's uncompressed type,
    whose blobs may be compressed. A Docker type with a suffix (`+encrypted`) gives "". Of several
    suffixes the alphabetically last one decides, as in containerd.
    """
    base, *suffixes = media_type.split("+")
    suffixes.sort()
    if base in (LAYER, LAYER_NONDISTRIBUTABLE):
        return suffixes[-1] if suffixes and suffixes[-1] in ("gzip", "zstd") else ""
    if base not in _DOCKER_COMPRESSION:
        return None
    return "" if suffixes else _DOCKER_COMPRESSION[base]


_DOCKER_COMPRESSION: Final = {
    DOCKER_LAYER: "unknown",
    DOCKER_FOREIGN_LAYER: "unknown",
    DOCKER_LAYER_GZIP: "gzip",
    DOCKER_FOREIGN_LAYER_GZIP: "gzip",
    DOCKER_LAYER_ZSTD: "zstd",
}


def _base(media_type: str) -> str:
    return media_type.partition("+")[0]


# --- times ---


def created_seconds(text: str) -> int:
    """Return an RFC 3339 time in whole seconds since the epoch.

    Return 0 for an empty or invalid time and for one outside 1970 to 9999.
    """
    return rfc3339.epoch_seconds(text)


def image_created(config: ImageConfig) -> int:
    """Return the creation time in epoch seconds: `created`, else that of the last history entry."""
    if config.created or not config.history:
        return created_seconds(config.created)
    return created_seconds(config.history[-1].created)


def parse_layout(data: bytes, subject: str = LAYOUT_FILE) -> ImageLayout:
    """Parse an `oci-layout` file; raise InvalidDocument for a version other than 1.0.0."""
    layout = go_json.decode(data, ImageLayout, subject)
    if layout.image_layout_version != LAYOUT_VERSION:
        version = layout.image_layout_version
        raise InvalidDocument(subject, f"unsupported imageLayoutVersion {version!r}")
    return layout


def is_docker_type(media_type: str) -> bool:
    """Return whether this is one of Docker's own media types."""
    return media_type.startswith("application/vnd.docker.")


def layer_compression_strict(media_type: str) -> str | None:
    """Return the compression as umoci reads it: None for all but OCI layers, or "unsupported"."""
    base, _, suffix = media_type.partition("+")
    if base not in (LAYER, LAYER_NONDISTRIBUTABLE):
        return None
    return suffix if suffix in ("", "gzip", "zstd") else "unsupported"

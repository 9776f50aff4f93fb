"""The media types of layers: conversions between those of OCI and Docker, and their properties."""

from engine.spec import oci

_DOCKER = {
    oci.LAYER: oci.DOCKER_LAYER,
    oci.LAYER_GZIP: oci.DOCKER_LAYER_GZIP,
    oci.LAYER_ZSTD: oci.DOCKER_LAYER_ZSTD,
    oci.LAYER_NONDISTRIBUTABLE: oci.DOCKER_FOREIGN_LAYER,
    oci.LAYER_NONDISTRIBUTABLE_GZIP: oci.DOCKER_FOREIGN_LAYER_GZIP,
}
_OCI = {docker: ours for ours, docker in _DOCKER.items()}
_DISTRIBUTABLE = {
    oci.LAYER_NONDISTRIBUTABLE: oci.LAYER,
    oci.LAYER_NONDISTRIBUTABLE_GZIP: oci.LAYER_GZIP,
    oci.LAYER_NONDISTRIBUTABLE_ZSTD: oci.LAYER_ZSTD,
}
_TARS = {oci.LAYER, oci.LAYER_NONDISTRIBUTABLE, *_OCI}
_COMPRESSED = {"none": oci.LAYER, "gzip": oci.LAYER_GZIP, "zstd": oci.LAYER_ZSTD}


def as_oci(media_type: str) -> str:
    """Return the OCI media type for one of Docker, `+encrypted` or not; return others unchanged."""
    base, plus, suffix = media_type.partition("+")
    return f"{_OCI.get(base, base)}{plus}{suffix}"


def as_docker(media_type: str) -> str:
    """Return the Docker media type for one of OCI; return others unchanged."""
    return _DOCKER.get(media_type, media_type)


def distributable(media_type: str) -> str:
    """Return the OCI media type of the same layer if it may be pushed; return others unchanged."""
    return _DISTRIBUTABLE.get(as_oci(media_type), media_type)


def is_encrypted(media_type: str) -> bool:
    """Return whether a layer of this media type is encrypted."""
    return "encrypted" in media_type.split("+")[1:]


def unreadable(media_type: str) -> str:
    """Return why a layer of this media type cannot be decompressed to match its diff ID, "" if it
    can.
    """
    base, *suffixes = media_type.split("+")
    if is_encrypted(media_type):
        return "is encrypted"
    if base in _TARS and not set(suffixes) - {"gzip", "zstd"}:
        return ""
    return f"is not a tar layer: its media type is {media_type or 'not given'}"


def compressed(compression: str) -> str:
    """Return the OCI media type of a layer with this compression: "none", "gzip" or "zstd"."""
    return _COMPRESSED[compression]

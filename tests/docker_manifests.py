"""Images with Docker's manifests (schema 2), as docker's containerd store saves them."""

from collections.abc import Callable, Sequence
from typing import Any

from tests import archives
from tests.archives import ImageParts, compressed, descriptor, to_json

MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
LIST = "application/vnd.docker.distribution.manifest.list.v2+json"
CONFIG = "application/vnd.docker.container.image.v1+json"
LAYER = "application/vnd.docker.image.rootfs.diff.tar"
FOREIGN = "application/vnd.docker.image.rootfs.foreign.diff.tar"


def as_it_is(data: bytes) -> bytes:
    return data


def manifest(
    image: ImageParts,
    layer_type: str = f"{LAYER}.gzip",
    stored: Callable[[bytes], bytes] = compressed,
    config_type: str = CONFIG,
) -> bytes:
    """The image's manifest; `stored` makes blobs of layers."""
    return to_json(
        {
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "config": descriptor(image.config, config_type),
            "layers": [descriptor(stored(layer), layer_type) for layer in image.layers],
        }
    )


def manifest_list(*members: dict[str, Any], media_type: str = LIST) -> bytes:
    return to_json({"schemaVersion": 2, "mediaType": media_type, "manifests": list(members)})


def member(data: bytes, image: ImageParts, media_type: str = MANIFEST) -> dict[str, Any]:
    """A manifest's descriptor in a list."""
    platform = {"architecture": image.architecture, "os": image.os}
    return descriptor(data, media_type, platform=platform)


def archive(name: str, target: bytes, media_type: str, blobs: Sequence[bytes]) -> bytes:
    """An OCI archive of one image; `name` is a full one."""
    entry = descriptor(target, media_type, annotations={"io.containerd.image.name": name})
    return archives.tar(archives.oci_members([entry], [target, *blobs]))


def saved(name: str, image: ImageParts) -> bytes:
    """An OCI archive of one image with a manifest of Docker's, its layers in gzip."""
    blobs = [image.config, *map(compressed, image.layers)]
    return archive(name, manifest(image), MANIFEST, blobs)

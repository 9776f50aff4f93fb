"""Distinguish the manifests of images from those of artifacts, by their configs and layers.

The media type of a config does not decide it: registries and builders have given image configs
types such as `application/octet-stream`, and artifacts (signatures, in-toto statements) have
configs of the image type. All functions are pure.
"""

from engine.spec import oci
from engine.spec.oci import ImageConfig, Manifest

_UNKNOWN = "unknown"
"""The operating system in the configs of attestations by BuildKit."""


def is_image(manifest: Manifest, config: ImageConfig | None) -> bool:
    """Return whether the manifest is an image's; `config` is None if absent or not an image config.

    With an image config type, it is an image unless the config names neither a platform nor diff
    IDs. With any other type, the config must name a platform and a root file system, and the layers
    must have the media types of image layers.
    """
    named = oci.is_config_type(manifest.config.media_type)
    if config is None:
        return named
    layers = [oci.is_layer_type(layer.media_type) for layer in manifest.layers]
    has_platform = bool(config.os or config.architecture) and config.os != _UNKNOWN
    if named:
        return not layers or has_platform or (bool(config.rootfs.diff_ids) and any(layers))
    has_root = bool(config.rootfs.type or config.rootfs.diff_ids)
    return has_platform and has_root and (not layers or any(layers))

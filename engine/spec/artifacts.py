"""Whether a manifest is an image's or an artifact's, as its config and its layers say it.

The media type of a config does not decide it: registries and builders have called image configs
`application/octet-stream` and other things, and artifacts (signatures, in-toto statements) have
configs of the image type. Pure functions.
"""

from engine.spec import oci
from engine.spec.oci import ImageConfig, Manifest

_UNKNOWN = "unknown"
"""The system that BuildKit writes into the configs of attestations."""


def is_image(manifest: Manifest, config: ImageConfig | None) -> bool:
    """Return whether this is an image; `config` is None where it is absent or no image config.

    An image config with the right media type makes an image unless it names neither a platform nor
    the diff IDs of layers. With any other media type it has to name a platform and a root file
    system, and the layers have to be those of images.
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

"""The descriptor of a blob, and the platform in it.

They are separate from the documents of `oci.py`, which listing images does not need.
"""

from typing import Annotated

import msgspec

Int64 = Annotated[int, msgspec.Meta(ge=-(2**63), le=2**63 - 1)]


class Platform(msgspec.Struct, frozen=True):
    """The platform on which an image runs; architecture and os are always written."""

    architecture: str
    os: str
    os_version: str = msgspec.field(default="", name="os.version")
    os_features: tuple[str, ...] = msgspec.field(default=(), name="os.features")
    variant: str = ""


class Descriptor(msgspec.Struct, frozen=True, rename="camel"):
    """The media type, digest and size in bytes of a blob; `data` is its content in base64."""

    media_type: str
    digest: str
    size: Int64
    urls: tuple[str, ...] = ()
    annotations: dict[str, str] = {}
    data: str = ""
    platform: Platform | None = None
    artifact_type: str = ""

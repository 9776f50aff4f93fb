"""What names a blob in every document: the descriptor, and the platform in it.

They stand apart from the documents (`oci.py`), since who lists images reads none.
"""

from typing import Annotated

import msgspec

Int64 = Annotated[int, msgspec.Meta(ge=-(2**63), le=2**63 - 1)]


class Platform(msgspec.Struct, frozen=True):
    """What an image runs on; architecture and os are always written."""

    architecture: str
    os: str
    os_version: str = msgspec.field(default="", name="os.version")
    os_features: tuple[str, ...] = msgspec.field(default=(), name="os.features")
    variant: str = ""


class Descriptor(msgspec.Struct, frozen=True, rename="camel"):
    """What a blob is, its digest and its size in bytes; `data` is base64 of the blob itself."""

    media_type: str
    digest: str
    size: Int64
    urls: tuple[str, ...] = ()
    annotations: dict[str, str] = {}
    data: str = ""
    platform: Platform | None = None
    artifact_type: str = ""

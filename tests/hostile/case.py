"""A hostile case, and archives that are valid except for what is hostile."""

import tarfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tests import archives
from tests.archives import ImageParts, descriptor, tar, to_json
from tests.tar import raw_tar

Member = tuple[str, bytes] | tarfile.TarInfo


@dataclass(frozen=True)
class Case:
    """An archive, which may be streamed, and how its load must end: `error` is None where it must
    succeed, `says` is a part of the sentence.
    """

    name: str
    make: Callable[[], Iterable[bytes]]
    error: type[Exception] | None = None
    says: str = ""
    options: tuple[str, ...] = ()
    """Options of `imgfs load`."""


def whole(data: Callable[[], bytes]) -> Callable[[], Iterable[bytes]]:
    """The maker of an archive that is small enough to be made at once."""
    return lambda: [data()]


PLAIN = archives.layer()
APP = ImageParts(layers=[PLAIN])
CONFIG = ("c.json", APP.config)
LAYER = ("l.tar", PLAIN)
NAME = "io.containerd.image.name"
REF = "org.opencontainers.image.ref.name"


def item(**more: Any) -> dict[str, Any]:
    """An item of manifest.json."""
    return {"Config": "c.json", "RepoTags": ["app:1"], "Layers": ["l.tar"], **more}


def docker(*members: Member, items: Any = None, config: bytes = APP.config) -> bytes:
    """A docker archive of one image that is right, behind these members."""
    last = ("manifest.json", to_json([item()] if items is None else items))
    return tar([("c.json", config), LAYER, *members, last])


def behind(*blocks: bytes) -> bytes:
    """The same, behind these blocks of a tar."""
    return b"".join(blocks) + docker()


def oci(entries: Sequence[Mapping[str, Any]], blobs: Sequence[bytes] = ()) -> bytes:
    """An OCI archive with the blobs of an image that is right, and these."""
    return tar(archives.oci_members(entries, [*APP.blobs(), *blobs]))


def entry(annotations: Mapping[str, str] | None = None, **more: Any) -> dict[str, Any]:
    """That image in index.json."""
    named = {NAME: "docker.io/library/app:1"} if annotations is None else annotations
    return descriptor(APP.manifest(), archives.OCI_MANIFEST) | {"annotations": named} | more


def described(document: Any, media_type: str = archives.OCI_MANIFEST) -> bytes:
    """An OCI archive whose one image is this document."""
    data = document if isinstance(document, bytes) else to_json(document)
    return oci([descriptor(data, media_type)], [data])


def manifest(**more: Any) -> dict[str, Any]:
    return {
        "schemaVersion": 2,
        "mediaType": archives.OCI_MANIFEST,
        "config": descriptor(APP.config, archives.OCI_CONFIG),
        "layers": [descriptor(PLAIN, archives.OCI_LAYER)],
        **more,
    }


def index(*manifests: Mapping[str, Any], **more: Any) -> dict[str, Any]:
    return {"schemaVersion": 2, "mediaType": archives.OCI_INDEX, "manifests": manifests, **more}


def streamed(
    name: bytes, size: int, pieces: Callable[[], Iterable[bytes]], before: bytes = b""
) -> Iterable[bytes]:
    """A docker archive that begins with a member whose data is made as it is written."""
    yield before + raw_tar.header(name, raw_tar.base256(size, 12), magic=raw_tar.GNU)
    yield from pieces()
    yield bytes(-size % 512) + docker()

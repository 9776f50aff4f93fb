"""Small archives for tests, made of Python's own tarfile, json and hashlib, and of nothing that is
tested.
"""

import gzip
import hashlib
import io
import json
import tarfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

OCI_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
OCI_INDEX = "application/vnd.oci.image.index.v1+json"
OCI_CONFIG = "application/vnd.oci.image.config.v1+json"
OCI_LAYER = "application/vnd.oci.image.layer.v1.tar"


def digest(data: bytes, algorithm: str = "sha256") -> str:
    return f"{algorithm}:{hashlib.new(algorithm, data).hexdigest()}"


def to_json(value: Any) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()


def tar(members: Iterable[tuple[str, bytes] | tarfile.TarInfo]) -> bytes:
    """A tar of (name, bytes) pairs and of headers without data."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        for member in members:
            if isinstance(member, tarfile.TarInfo):
                archive.addfile(member)
            else:
                info = tarfile.TarInfo(member[0])
                info.size = len(member[1])
                archive.addfile(info, io.BytesIO(member[1]))
    return out.getvalue()


def members(archive: bytes) -> list[tuple[str, bytes]]:
    """The files in a tar, by name."""
    with tarfile.open(fileobj=io.BytesIO(archive)) as opened:
        found = [(member.name, opened.extractfile(member)) for member in opened]
    return [(name, file.read()) for name, file in found if file is not None]


def extended(archive: bytes, more: Iterable[tuple[str, bytes]]) -> bytes:
    """A tar with further files at its end, as `tar -r` makes it."""
    return tar([*members(archive), *more])


def link(name: str, target: str, kind: bytes = tarfile.SYMTYPE) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type = kind
    info.linkname = target
    return info


def layer(name: str = "hello", content: bytes = b"hello\n") -> bytes:
    """An uncompressed layer with one file."""
    return tar([(name, content)])


def compressed(data: bytes) -> bytes:
    return gzip.compress(data, mtime=0)


@dataclass(frozen=True)
class ImageParts:
    """An image before it is put in an archive: uncompressed layers and the fields of its config."""

    layers: Sequence[bytes] = (layer(),)
    architecture: str = "amd64"
    os: str = "linux"
    created: str = "2024-02-03T04:05:06Z"
    extra: Mapping[str, Any] = field(default_factory=dict)

    @property
    def config(self) -> bytes:
        return to_json(
            {
                "created": self.created,
                "architecture": self.architecture,
                "os": self.os,
                "config": {"Cmd": ["/hello"]},
                "rootfs": {"type": "layers", "diff_ids": [digest(data) for data in self.layers]},
                "history": [{"created": self.created, "created_by": "test"} for _ in self.layers],
                **self.extra,
            }
        )

    @property
    def id(self) -> str:
        return digest(self.config)

    def manifest(self, gzipped: bool = False) -> bytes:
        blobs = [compressed(data) if gzipped else data for data in self.layers]
        media_type = f"{OCI_LAYER}+gzip" if gzipped else OCI_LAYER
        return to_json(
            {
                "schemaVersion": 2,
                "mediaType": OCI_MANIFEST,
                "config": descriptor(self.config, OCI_CONFIG),
                "layers": [descriptor(blob, media_type) for blob in blobs],
            }
        )

    def blobs(self, gzipped: bool = False) -> list[bytes]:
        layers = [compressed(data) if gzipped else data for data in self.layers]
        return [self.manifest(gzipped), self.config, *layers]


def descriptor(data: bytes, media_type: str, **more: Any) -> dict[str, Any]:
    return {"mediaType": media_type, "digest": digest(data), "size": len(data), **more}


def docker_archive(*images: tuple[ImageParts, Sequence[str] | None]) -> bytes:
    """As docker save before 25 writes it, each layer in `<id>/layer.tar`."""
    members: dict[str, bytes] = {}
    items = []
    for image, tags in images:
        config = f"{image.id[7:]}.json"
        members[config] = image.config
        paths = []
        for data in image.layers:
            path = f"{digest(data)[7:]}/layer.tar"
            members[path] = data
            paths.append(path)
        items.append({"Config": config, "RepoTags": tags, "Layers": paths})
    return tar([*members.items(), ("manifest.json", to_json(items))])


def crane_archive(*images: tuple[ImageParts, Sequence[str]]) -> bytes:
    """As go-containerregistry's tarball.Write writes it (crane pull, ko, kaniko): configs called by
    their digests, layers compressed and without a directory, no `repositories`.
    """
    members: dict[str, bytes] = {}
    items = []
    for image, tags in images:
        members[image.id] = image.config
        blobs = {f"{digest(blob)[7:]}.tar.gz": blob for blob in map(compressed, image.layers)}
        members |= blobs
        items.append({"Config": image.id, "RepoTags": tags, "Layers": list(blobs)})
    return tar([*members.items(), ("manifest.json", to_json(items))])


def legacy_crane_archive(image: ImageParts, repository: str, tag: str) -> bytes:
    """As go-containerregistry's legacy tarball.Write writes it (crane pull --format=legacy): plain
    layers with v1 configs, no entries for directories, `repositories` by the names as given.
    """
    config = f"{image.id[7:]}.json"
    members: dict[str, bytes] = {config: image.config}
    parent = ""
    for data in image.layers:
        layer_id = digest(f"{digest(data)} {parent}".encode())[7:]
        members[f"{layer_id}/layer.tar"] = data
        members[f"{layer_id}/json"] = to_json({"id": layer_id, "parent": parent})
        members[f"{layer_id}/VERSION"] = b"1.0"
        parent = layer_id
    paths = [name for name in members if name.endswith("/layer.tar")]
    item = {"Config": config, "RepoTags": [f"{repository}:{tag}"], "Layers": paths}
    members["manifest.json"] = to_json([item])
    members["repositories"] = to_json({repository: {tag: parent}})
    return tar(members.items())


def blob_members(blobs: Iterable[bytes]) -> list[tuple[str, bytes]]:
    unique = {f"blobs/sha256/{digest(blob)[7:]}": blob for blob in blobs}
    return sorted(unique.items())


def oci_members(
    entries: Sequence[Mapping[str, Any]], blobs: Iterable[bytes]
) -> list[tuple[str, bytes]]:
    """The members of an OCI archive whose index.json has these entries."""
    index = {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": list(entries)}
    return [
        *blob_members(blobs),
        ("index.json", to_json(index)),
        ("oci-layout", b'{"imageLayoutVersion":"1.0.0"}'),
    ]


def oci_archive(*images: tuple[ImageParts, str | None], gzipped: bool = False) -> bytes:
    """An OCI archive with containerd's name annotations."""
    entries = []
    for image, name in images:
        annotations = {"io.containerd.image.name": name} if name else {}
        entries.append(descriptor(image.manifest(gzipped), OCI_MANIFEST, annotations=annotations))
    return tar(oci_members(entries, [b for image, _ in images for b in image.blobs(gzipped)]))


def multi_platform(
    name: str, images: Sequence[ImageParts], absent: Sequence[ImageParts] = ()
) -> bytes:
    """An index over all the images, in an archive that lacks the blobs of some."""
    manifests = [
        descriptor(
            image.manifest(),
            OCI_MANIFEST,
            platform={"architecture": image.architecture, "os": image.os},
        )
        for image in (*images, *absent)
    ]
    index = to_json({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": manifests})
    entry = descriptor(index, OCI_INDEX, annotations={"io.containerd.image.name": name})
    return tar(oci_members([entry], [index, *(b for image in images for b in image.blobs())]))

"""Reading of archives that `manifest.json` describes.

docker save before version 25, podman, skopeo, buildah, kaniko, jib and bazel write them. They are
read as containerd's importer and moby's load read them, except that the manifest created for each
item is an OCI manifest, since umoci and skopeo's `oci:` read no other. The image ID is the digest
of the content of the config, whatever its file name.
"""

from collections.abc import Iterable
from itertools import zip_longest

import msgspec

from engine import graph as walk
from engine.archive import pooled_layers
from engine.archive.archive_image import ArchiveImage, Inventory, check_count, check_layers
from engine.archive.archive_names import docker_names
from engine.archive.members import Members
from engine.compression.options import Compression
from engine.errors import EngineError, InvalidDigest, InvalidDocument, MissingMember
from engine.layers.diff_ids import compression_of
from engine.spec import digest as digests
from engine.spec import docker, go_json, oci
from engine.spec import media_types as layer_types
from engine.spec.digest import Digest
from engine.spec.oci import Descriptor, ImageConfig, Manifest
from engine.tar.member import clean_name


def read(members: Members, most: int, compression: Compression | None = None) -> Inventory:
    """Return the images of `manifest.json` in its order; compress plain layers if `compression` is
    set.

    Raise LimitExceeded for more than `most` names, and the errors of `image`.
    """
    items = docker.parse_manifest_json(members.document(docker.MANIFEST_FILE))
    check_count(sum(len(item.repo_tags or ("",)) for item in items), most)
    graphs: dict[bytes, walk.Graph] = {}
    found = []
    for item in items:
        made_of = go_json.dumps(_without_names(item))
        if made_of not in graphs:
            graphs[made_of] = image(members, item, compression).graph
        found.append(ArchiveImage(docker_names(item), graphs[made_of]))
    return Inventory(tuple(found))


def _without_names(item: docker.ManifestItem) -> docker.ManifestItem:
    """Return what the image of an item is made of, the same for paths to the same files."""
    return msgspec.structs.replace(
        item,
        config=clean_name(item.config) or item.config,
        repo_tags=None,
        layers=tuple(clean_name(path) or path for path in item.layers or ()),
        parent="",
    )


def unstored_layers(members: Members, items: Iterable[docker.ManifestItem]) -> list[str]:
    """Return the paths of the layers whose diff IDs are not stored; raise the errors of `image`."""
    paths: dict[str, str] = {}
    for item in items:
        if item.config and members.has(item.config):
            config = _config(members, item.config, members.find(item.config).digest)
            layers = zip_longest(item.layers or (), config.rootfs.diff_ids, fillvalue="")
            paths |= {path: diff_id for path, diff_id in layers if path}
    stored = members.sizes(diff_id for diff_id in paths.values() if _is_digest(diff_id))
    return [path for path, diff_id in paths.items() if diff_id not in stored]


def parents(members: Members) -> dict[str, str]:
    """Return the parents that `manifest.json` states: the parent's ID by image ID.

    Return an empty dict if the file is absent or unreadable, since this information is optional.
    """
    if not members.has(docker.MANIFEST_FILE):
        return {}
    try:
        items = docker.parse_manifest_json(members.document(docker.MANIFEST_FILE))
        return {members.find(i.config).digest: i.parent for i in items if i.parent}
    except EngineError:
        return {}


def found_image(
    members: Members,
    names: tuple[str, ...],
    config: Digest,
    config_size: int,
    layers: list[Descriptor],
) -> ArchiveImage:
    """Return an image of these parts, after creating its manifest and adding it to `members`."""
    manifest = Manifest(
        schema_version=2,
        media_type=oci.MANIFEST,
        config=Descriptor(media_type=oci.CONFIG, digest=config, size=config_size),
        layers=tuple(layers),
    )
    data = oci.render(manifest)
    digest = members.add("manifest", data)
    target = Descriptor(media_type=oci.MANIFEST, digest=digest, size=len(data))
    return ArchiveImage(names, walk.graph(members, target, documents=members.documents))


def layer_descriptor(members: Members, digest: Digest, size: int) -> Descriptor:
    """Return the descriptor of a layer; the first bytes determine plain, gzip or zstd."""
    with members.open(digest) as reader:
        compression = compression_of(reader)
    return Descriptor(media_type=layer_types.compressed(compression), digest=digest, size=size)


def compressed(
    members: Members, layers: list[Descriptor], compression: Compression | None
) -> list[Descriptor]:
    """Return the layers, with plain ones replaced by their compressed form if `compression` asks
    so.
    """
    if compression is None or compression.kind == "uncompressed":
        return layers
    return [
        pooled_layers.compressed(members.pool, layer, compression)
        if layer.media_type == oci.LAYER
        else layer
        for layer in layers
    ]


def image(
    members: Members, item: docker.ManifestItem, compression: Compression | None
) -> ArchiveImage:
    """Return the image of an item, with a manifest created for it.

    Raise InvalidDocument, MissingMember, BrokenArchive or DigestMismatch.
    """
    names = docker_names(item)
    if not item.config:
        raise InvalidDocument(docker.MANIFEST_FILE, "an item has no Config")
    content = members.find(item.config)
    diff_ids = _config(members, item.config, content.digest).rootfs.diff_ids
    subject = names[0] if names else item.config
    paths = item.layers or ()
    sources = item.layer_sources
    layers = [
        _layer(
            members,
            path,
            diff_ids[i] if i < len(diff_ids) else "",
            sources.get(diff_ids[i]) if i < len(diff_ids) else None,
        )
        for i, path in enumerate(paths)
    ]
    check_layers(members, subject, diff_ids, layers)
    layers = compressed(members, layers, compression)
    return found_image(members, names, content.digest, content.size, layers)


def _config(members: Members, path: str, digest: Digest) -> ImageConfig:
    """Return the config at a path; raise InvalidDocument for one that docker could not read."""

    def read() -> bytes:
        return members.document(path)

    members.documents.check_once(digest, lambda: docker.check_config(read(), path))
    return members.documents.config(digest, path, read)


def _layer(
    members: Members, path: str, diff_id: str, source: docker.LayerSource | None
) -> Descriptor:
    """Return the layer at `path`.

    If the file is absent, return the stored blob with that diff ID, or else the foreign layer that
    `source` describes. Raise MissingMember if there is none of these, InvalidDocument for a
    descriptor that is invalid.
    """
    try:
        content = members.find(path)
    except MissingMember:
        known = _stored(members, diff_id)
        if known is not None:
            return known
        if source is not None and oci.is_nondistributable(source.media_type):
            media_type = layer_types.as_oci(source.media_type)
            foreign = Descriptor(media_type, source.digest, source.size, source.urls)
            return oci.check_descriptor(foreign, docker.MANIFEST_FILE)
        raise
    plain = pooled_layers.plain(members.pool, content)
    return layer_descriptor(members, plain.digest, plain.size)


def _is_digest(text: str) -> bool:
    try:
        digests.parse(text)
    except InvalidDigest:
        return False
    return True


def _stored(members: Members, diff_id: str) -> Descriptor | None:
    try:
        digest = digests.parse(diff_id)
        size = members.sizes([digest])[digest]
    except (KeyError, InvalidDigest):
        return None
    return layer_descriptor(members, digest, size)

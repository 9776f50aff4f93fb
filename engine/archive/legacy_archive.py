"""Reading of archives of docker save before 1.10.

They have a file `repositories`, and for each layer a directory with `json` and `layer.tar`. As in
dockerd, the chain of parents gives the layers and the history, and the `json` of the top layer
becomes the config.
"""

from collections.abc import Iterator

import msgspec

from engine.archive import pooled_layers
from engine.archive.archive_image import ArchiveImage, Inventory, check_beginning, check_count
from engine.archive.archive_names import full_name
from engine.archive.docker_archive import compressed, found_image, layer_descriptor
from engine.archive.members import Members
from engine.compression.options import Compression
from engine.errors import BrokenArchive, LimitExceeded
from engine.spec import docker
from engine.spec.digest import Digest
from engine.spec.go_json import JSON_LIMIT
from engine.spec.oci import Descriptor

_MAX_CHAIN = 1000
"""The limit of layers, far above that of any graph driver."""


def read(members: Members, most: int, compression: Compression | None = None) -> Inventory:
    """Return the images that `repositories` names, in the order of their names.

    Compress plain layers if `compression` is set. Raise LimitExceeded for more than `most` names,
    and BrokenArchive if there is none.
    """
    repositories = docker.parse_repositories(members.document(docker.REPOSITORIES_FILE))
    check_count(sum(len(tags) for tags in repositories.values()), most)
    names: dict[str, list[str]] = {}
    for repository, tags in sorted(repositories.items()):
        for tag, v1_id in sorted(tags.items()):
            names.setdefault(v1_id, []).append(
                full_name(f"{repository}:{tag}", docker.REPOSITORIES_FILE)
            )
    if not names:
        raise BrokenArchive(docker.REPOSITORIES_FILE, "names no image")
    layers = _Layers(members)
    return Inventory(
        tuple(_image(layers, v1_id, tuple(tags), compression) for v1_id, tags in names.items())
    )


def needed_files(members: Members) -> Iterator[tuple[str, str]]:
    """Yield the paths of the files of each layer, which has to be received before the next."""
    repositories = docker.parse_repositories(members.document(docker.REPOSITORIES_FILE))
    seen = set()
    for v1_id in (top for tags in repositories.values() for top in tags.values()):
        layer = v1_id
        while layer and layer not in seen and not _is_strange(layer):
            seen.add(layer)
            config = f"{layer}/{docker.V1_CONFIG_FILE}"
            yield config, f"{layer}/{docker.V1_LAYER_FILE}"
            if not members.has(config):
                break
            layer = docker.parse_v1(members.document(config), config).parent


def _is_strange(v1_id: str) -> bool:
    """Return whether a v1 ID is no name of a directory in the archive."""
    return "/" in v1_id or v1_id in (".", "..")


class _Layer(msgspec.Struct, frozen=True):
    """A v1 layer: the v1 ID of its parent, and its entry in the history."""

    parent: str
    history: docker.History

    @property
    def size(self) -> int:
        """The number of characters in the history."""
        entry = self.history
        return len(entry.created_by) + len(entry.comment) + len(entry.author)


class _Layers:
    """The v1 layers of an archive; each is read once, also if several images share it."""

    def __init__(self, members: Members) -> None:
        self.members = members
        self._layers: dict[str, _Layer] = {}
        self._history = 0
        """The length of the history of the layers that are kept."""
        self._files: dict[str, tuple[Digest, Descriptor]] = {}

    def layer(self, v1_id: str) -> _Layer:
        if v1_id in self._layers:
            return self._layers[v1_id]
        image = docker.parse_v1(self.config(v1_id), f"{v1_id}/{docker.V1_CONFIG_FILE}")
        layer = _Layer(image.parent, docker.history_from_v1(image))
        if self._history + layer.size <= JSON_LIMIT:
            self._history += layer.size
            self._layers[v1_id] = layer
        return layer

    def file(self, v1_id: str) -> tuple[Digest, Descriptor]:
        """Return the diff ID of the layer, and its descriptor."""
        if v1_id not in self._files:
            found = pooled_layers.plain(
                self.members.pool, self.members.find(f"{v1_id}/{docker.V1_LAYER_FILE}")
            )
            diff_id = pooled_layers.diff_id(self.members.pool, found.digest)
            check_beginning(self.members, found.digest, f"layer {v1_id} ({found.name})")
            descriptor = layer_descriptor(self.members, found.digest, found.size)
            self._files[v1_id] = diff_id, descriptor
        return self._files[v1_id]

    def config(self, v1_id: str) -> bytes:
        return self.members.document(f"{v1_id}/{docker.V1_CONFIG_FILE}")


def _image(
    layers: _Layers, v1_id: str, names: tuple[str, ...], compression: Compression | None
) -> ArchiveImage:
    chain = _chain(layers, v1_id)
    files = [layers.file(layer) for layer in chain]
    config = docker.config_from_v1(
        layers.config(v1_id),
        [diff_id for diff_id, _ in files],
        list(chain.values()),
        f"{v1_id}/{docker.V1_CONFIG_FILE}",
    )
    digest = layers.members.add(f"{v1_id}.json", config)
    descriptors = compressed(layers.members, [layer for _, layer in files], compression)
    return found_image(layers.members, names, Digest(digest), len(config), descriptors)


def _chain(layers: _Layers, v1_id: str) -> dict[str, docker.History]:
    """Return the v1 IDs from the lowest layer to this one, and the history of each.

    Raise LimitExceeded if the history is larger than the config that it becomes a part of may be.
    """
    chain: dict[str, docker.History] = {}
    size = 0
    while v1_id:
        if _is_strange(v1_id):
            raise BrokenArchive(docker.REPOSITORIES_FILE, f"expected a v1 image ID, found {v1_id}")
        if v1_id in chain or len(chain) >= _MAX_CHAIN:
            raise BrokenArchive(f"{v1_id}/{docker.V1_CONFIG_FILE}", "its parents form a loop")
        layer = layers.layer(v1_id)
        size += layer.size
        if size > JSON_LIMIT:
            raise LimitExceeded(
                f"{v1_id}/{docker.V1_CONFIG_FILE}", "bytes of history", JSON_LIMIT, size
            )
        chain[v1_id] = layer.history
        v1_id = layer.parent
    return dict(reversed(chain.items()))

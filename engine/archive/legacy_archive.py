"""Archives of docker save before 1.10: `repositories`, and a directory with `json` and `layer.tar`
a layer.

As dockerd loads them: the chain of parents gives layers and history, and the top layer's `json`
becomes the config.
"""

from engine import docker
from engine.archive.docker_archive import compressed, found_image, layer_descriptor
from engine.archive.found import Found
from engine.archive.intake import Intake
from engine.archive.names import full_name
from engine.compression import Compression
from engine.digest import Digest
from engine.errors import BrokenArchive

_MAX_CHAIN = 1000
"""Far more layers than any graph driver took."""


def read(intake: Intake, compression: Compression | None = None) -> list[Found]:
    """The images that `repositories` names, in the order of their names; plain layers are
    compressed if that is asked for.
    """
    repositories = docker.parse_repositories(intake.document(docker.REPOSITORIES_FILE))
    names: dict[str, list[str]] = {}
    for repository, tags in sorted(repositories.items()):
        for tag, v1_id in sorted(tags.items()):
            names.setdefault(v1_id, []).append(
                full_name(f"{repository}:{tag}", docker.REPOSITORIES_FILE)
            )
    if not names:
        raise BrokenArchive(docker.REPOSITORIES_FILE, "names no image")
    return [_image(intake, v1_id, tuple(tags), compression) for v1_id, tags in names.items()]


def _image(
    intake: Intake, v1_id: str, names: tuple[str, ...], compression: Compression | None
) -> Found:
    chain = _chain(intake, v1_id)
    layers = [intake.find(f"{layer}/{docker.V1_LAYER_FILE}") for layer in chain]
    images = [docker.parse_v1(_config(intake, layer), f"{layer}/json") for layer in chain]
    config = docker.config_from_v1(
        _config(intake, v1_id),
        [intake.diff_id(layer.digest) for layer in layers],
        [docker.history_from_v1(image) for image in images],
        f"{v1_id}/{docker.V1_CONFIG_FILE}",
    )
    digest = intake.add(f"{v1_id}.json", config)
    descriptors = [layer_descriptor(intake, layer.digest, layer.size) for layer in layers]
    descriptors = compressed(intake, descriptors, compression)
    return found_image(intake, names, Digest(digest), len(config), descriptors)


def _chain(intake: Intake, v1_id: str) -> list[str]:
    """The v1 IDs from the lowest layer to this one."""
    chain: list[str] = []
    while v1_id:
        if "/" in v1_id or v1_id in (".", ".."):
            raise BrokenArchive(docker.REPOSITORIES_FILE, f"expected a v1 image ID, found {v1_id}")
        if v1_id in chain or len(chain) >= _MAX_CHAIN:
            raise BrokenArchive(f"{v1_id}/{docker.V1_CONFIG_FILE}", "its parents form a loop")
        chain.append(v1_id)
        v1_id = docker.parse_v1(_config(intake, v1_id), f"{v1_id}/json").parent
    return chain[::-1]


def _config(intake: Intake, v1_id: str) -> bytes:
    return intake.document(f"{v1_id}/{docker.V1_CONFIG_FILE}")

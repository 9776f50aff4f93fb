"""Archives that real tools write today, one of each kind."""

import json
import sys
import tarfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from tests import archives
from tests.archives import ImageParts
from tests.clients import images
from tests.clients.client import Client, find, shell
from tests.clients.containers import Podman
from tests.clients.daemons import Containerd, Dockerd
from tests.clients.images import Image

IMGFS = f"{sys.executable} -m imgfs"


@dataclass(frozen=True, slots=True)
class Saved:
    """An image, and the archive of it that a tool wrote."""

    archive: Path
    id: str
    """sha256:<hex> of the config."""
    says: str
    """The output of a container of the image."""
    directory: str | None
    """The image's path in a mount; None if the archive names no image."""

    @property
    def manifest(self) -> str | None:
        """Return the digest of the manifest, None if the archive has none."""
        with tarfile.open(self.archive) as archive:
            names = {name.removeprefix("./"): name for name in archive.getnames()}
            if "index.json" not in names:
                return None
            index = archive.extractfile(names["index.json"])
            assert index is not None
            (entry,) = json.load(index)["manifests"]
            return str(entry["digest"])


def docker_import(root: Path, folder: Path, dockerd: Dockerd) -> Saved:
    image = images.import_image(dockerd.docker, root, "imported:1")
    return _by_docker(dockerd, folder, image)


def docker_build(root: Path, folder: Path, dockerd: Dockerd) -> Saved:
    name = "registry.test:5000/a/b:1"
    return _by_docker(
        dockerd, folder, images.build_image(dockerd.docker, root, folder / "context", name)
    )


def podman_docker_archive(root: Path, folder: Path, podman: Podman) -> Saved:
    image = images.import_image(podman.podman, root, "localhost/imported:1")
    return _by_podman(podman, folder, image, "docker-archive")


def podman_oci_archive(root: Path, folder: Path, podman: Podman) -> Saved:
    image = images.build_image(podman.podman, root, folder / "context", "localhost/built:1")
    return _by_podman(podman, folder, image, "oci-archive")


def buildah_push(root: Path, folder: Path, podman: Podman, buildah: Client) -> Saved:
    image = images.commit_image(buildah, podman.podman, root, "localhost/committed:1")
    saved = _saved(image, folder, "committed:1")
    buildah("push", image.name, f"oci-archive:{saved.archive}:docker.io/library/committed:1")
    podman.clear()
    return saved


def skopeo_docker_archive(root: Path, folder: Path, umoci: Client, skopeo: Client) -> Saved:
    image = images.insert_image(umoci, root, folder / "layout", "1")
    saved = _saved(image, folder, "quay.test/copied:1")
    skopeo("copy", f"oci:{image.name}", f"docker-archive:{saved.archive}:quay.test/copied:1")
    return saved


def containerd_export(root: Path, folder: Path, umoci: Client, containerd: Containerd) -> Saved:
    layout = umoci_layout(root, folder, umoci)
    saved = replace(layout, archive=folder / "exported.tar", directory="exported:1")
    base = "docker.io/library/exported"
    containerd.ctr("images", "import", "--base-name", base, layout.archive)
    containerd.ctr("images", "export", saved.archive, f"{base}:1")
    containerd.clear()
    return saved


def umoci_layout(root: Path, folder: Path, umoci: Client) -> Saved:
    """Make a layout whose only name is a tag without a repository."""
    image = images.insert_image(umoci, root, folder / "layout", "1")
    saved = _saved(image, folder, None)
    shell(f"tar -C {folder}/layout -cf {saved.archive} .")
    return saved


def skopeo_oci_archive(root: Path, folder: Path, umoci: Client, skopeo: Client) -> Saved:
    image = images.insert_image(umoci, root, folder / "layout", "1")
    saved = _saved(image, folder, "quay.test/copied:1")
    skopeo("copy", f"oci:{image.name}", f"oci-archive:{saved.archive}:quay.test/copied:1")
    return saved


def newer_docker(root: Path, folder: Path, dockerd: Dockerd) -> Saved:
    """Make the archive, byte for byte, that docker since 25 saves of an image built by an older
    docker.
    """
    built = docker_build(root, folder, dockerd)
    saved = replace(built, archive=folder / "newer.tar")
    imgfs = f"{IMGFS} --store {folder}/store"
    shell(f"{imgfs} load -q {built.archive}")
    shell(f"{imgfs} save --layout docker -o {saved.archive} {built.directory}")
    return saved


def crane(root: Path, folder: Path) -> Saved:
    parts = _parts(root)
    return _written(archives.crane_archive((parts, ["crane:1"])), parts, folder)


def legacy_crane(root: Path, folder: Path) -> Saved:
    parts = _parts(root)
    return _written(archives.legacy_crane_archive(parts, "crane", "1"), parts, folder)


def _parts(root: Path) -> ImageParts:
    layers = [
        Client((find("tar"),)).output("-C", root, "--numeric-owner", "-c", "."),
        archives.layer("etc/salute", b"pulled\n"),
    ]
    return ImageParts(layers, extra={"config": {"Cmd": ["cat", "/etc/salute"]}})


def _written(archive: bytes, parts: ImageParts, folder: Path) -> Saved:
    saved = Saved(folder / "image.tar", parts.id, "pulled", "crane:1")
    saved.archive.write_bytes(archive)
    return saved


def _by_docker(dockerd: Dockerd, folder: Path, image: Image) -> Saved:
    saved = _saved(image, folder, image.name)
    dockerd.docker("save", "-o", saved.archive, image.name)
    dockerd.clear()
    return saved


def _by_podman(podman: Podman, folder: Path, image: Image, kind: str) -> Saved:
    saved = _saved(image, folder, image.name)
    podman.podman("save", "--format", kind, "-o", saved.archive, image.name)
    podman.clear()
    return saved


def _saved(image: Image, folder: Path, directory: str | None) -> Saved:
    return Saved(folder / "image.tar", image.id, image.says, directory)


MAKERS: Mapping[str, tuple[Callable[..., Saved], *tuple[str, ...]]] = {
    "docker import": (docker_import, "_dockerd"),
    "docker build": (docker_build, "_dockerd"),
    "podman save docker-archive": (podman_docker_archive, "_podman"),
    "podman save oci-archive": (podman_oci_archive, "_podman"),
    "buildah push": (buildah_push, "_podman", "buildah"),
    "skopeo copy docker-archive": (skopeo_docker_archive, "umoci", "skopeo"),
    "ctr images export": (containerd_export, "umoci", "_containerd"),
    "tar of a layout by umoci": (umoci_layout, "umoci"),
}
"""The makers of archives, and the fixtures that they need."""

SHAPES: Mapping[str, tuple[Callable[..., Saved], *tuple[str, ...]]] = {
    "docker save since 25": (newer_docker, "_dockerd"),
    "skopeo copy oci-archive": (skopeo_oci_archive, "umoci", "skopeo"),
    "crane pull": (crane,),
    "crane pull legacy": (legacy_crane,),
}
"""Makers of further kinds: of tools that are missing here, or similar to others."""

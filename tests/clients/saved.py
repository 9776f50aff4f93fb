"""Images as their makers save them: one archive of each kind that real tools write today."""

import json
import sys
import tarfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from tests.clients import images
from tests.clients.client import Client, shell
from tests.clients.containers import Podman
from tests.clients.daemons import Containerd, Dockerd
from tests.clients.images import Image


@dataclass(frozen=True, slots=True)
class Saved:
    """An image, and the archive that a tool wrote of it."""

    archive: Path
    id: str
    """sha256:<hex> of its config"""
    says: str
    """what a container of it prints"""
    directory: str | None
    """where the mount shows it; None for an archive that tells no name"""

    @property
    def manifest(self) -> str | None:
        """The digest of its manifest, where the archive has one."""
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
    """Its only name is a tag without a repository."""
    image = images.insert_image(umoci, root, folder / "layout", "1")
    saved = _saved(image, folder, None)
    shell(f"tar -C {folder}/layout -cf {saved.archive} .")
    return saved


def crane_tarball(root: Path, folder: Path, umoci: Client) -> Saved:
    """As go-containerregistry's tarball.Write has it: the config is called like its digest, the
    compressed layers have flat names, and manifest.json comes last.
    """
    image = images.insert_image(umoci, root, folder / "layout", "1")
    blobs = folder / "layout" / "blobs" / "sha256"
    manifest = json.loads(_only_manifest(folder / "layout").read_bytes())
    config = manifest["config"]["digest"]
    members = {config: blobs / config.partition(":")[2]}
    for layer in manifest["layers"]:
        encoded = layer["digest"].partition(":")[2]
        members[f"{encoded}.tar.gz"] = blobs / encoded
    item = {"Config": config, "RepoTags": ["gcr.test/p/craned:1"], "Layers": list(members)[1:]}
    (folder / "manifest.json").write_text(json.dumps([item]))
    saved = _saved(image, folder, "gcr.test/p/craned:1")
    with tarfile.open(saved.archive, "w") as archive:
        for name, path in {**members, "manifest.json": folder / "manifest.json"}.items():
            archive.add(path, name)
    return saved


def newer_docker(root: Path, folder: Path, umoci: Client) -> Saved:
    """As docker 25 to 28 save, which Debian does not have: `tests/layouts` compares the bytes."""
    layout = umoci_layout(root, folder, umoci)
    saved = replace(layout, archive=folder / "saved.tar", directory="newer:1")
    imgfs = f"{sys.executable} -m imgfs --store {folder}/store"
    shell(f"{imgfs} load -q --name newer:1 -i {layout.archive}")
    shell(f"{imgfs} save --layout docker -o {saved.archive} newer:1")
    return saved


def _only_manifest(layout: Path) -> Path:
    (entry,) = json.loads((layout / "index.json").read_bytes())["manifests"]
    return layout / "blobs" / str(entry["digest"]).replace(":", "/")


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
    "crane's tarball": (crane_tarball, "umoci"),
    "docker 25": (newer_docker, "umoci"),
}
"""What makes each archive, and the fixtures that it works with."""

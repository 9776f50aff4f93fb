"""An image that imgfs loads from a tool's archive and saves is the same to that tool: it has the
same ID, and the same manifest if the tool keeps manifests.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.clients.client import Client, shell
from tests.clients.containers import Podman
from tests.clients.daemons import Containerd, Dockerd
from tests.clients.saved import IMGFS, Saved


@dataclass(frozen=True)
class Seen:
    """The properties of an archive's only image, as a tool reads them."""

    id: str
    manifest: str | None = None


def by_docker(archive: Path, _folder: Path, dockerd: Dockerd) -> Seen:
    dockerd.docker("load", "-i", archive)
    (image_id,) = set(dockerd.docker("images", "--all", "--quiet", "--no-trunc").split())
    dockerd.clear()
    return Seen(image_id)


def by_podman(archive: Path, _folder: Path, podman: Podman) -> Seen:
    podman.podman("load", "-i", archive)
    reported = podman.podman("images", "--no-trunc", "--format", "{{.ID}} {{.Digest}}")
    podman.clear()
    ((image_id, digest),) = {tuple(line.split()) for line in reported.splitlines()}
    return Seen(image_id, digest)


def by_containerd(archive: Path, _folder: Path, containerd: Containerd) -> Seen:
    containerd.ctr("images", "import", "--all-platforms", archive)
    (digest,) = {line.split()[2] for line in containerd.ctr("images", "ls").splitlines()[1:]}
    manifest = json.loads(containerd.ctr("content", "get", digest))
    containerd.clear()
    return Seen(manifest["config"]["digest"], digest)


def by_skopeo_docker_archive(archive: Path, folder: Path, skopeo: Client) -> Seen:
    return _copied(skopeo, f"docker-archive:{archive}", folder)


def by_skopeo_oci_archive(archive: Path, folder: Path, skopeo: Client) -> Seen:
    return _copied(skopeo, f"oci-archive:{archive}", folder)


def by_skopeo_oci(archive: Path, folder: Path, skopeo: Client) -> Seen:
    return _copied(skopeo, f"oci:{_unpacked(archive, folder)}:1", folder)


def by_umoci(archive: Path, folder: Path, umoci: Client) -> Seen:
    layout = _unpacked(archive, folder)
    umoci("unpack", "--keep-dirlinks", "--image", f"{layout}:1", folder / "bundle")
    (entry,) = json.loads((layout / "index.json").read_bytes())["manifests"]
    manifest = json.loads((layout / "blobs" / entry["digest"].replace(":", "/")).read_bytes())
    return Seen(manifest["config"]["digest"], entry["digest"])


READERS: Mapping[str, tuple[Callable[..., Seen], str]] = {
    "docker": (by_docker, "dockerd"),
    "podman": (by_podman, "podman"),
    "containerd": (by_containerd, "containerd"),
    "skopeo docker-archive": (by_skopeo_docker_archive, "skopeo"),
    "skopeo oci-archive": (by_skopeo_oci_archive, "skopeo"),
    "skopeo oci": (by_skopeo_oci, "skopeo"),
    "umoci": (by_umoci, "umoci"),
}

TRIPS = (
    ("docker import", "docker"),
    ("docker build", "docker"),
    ("docker save since 25", "docker"),
    ("docker save since 25", "podman"),
    ("docker save since 25", "containerd"),
    ("docker save since 25", "skopeo docker-archive"),
    ("podman save docker-archive", "podman"),
    ("podman save oci-archive", "podman"),
    ("buildah push", "podman"),
    ("ctr images export", "containerd"),
    ("skopeo copy docker-archive", "skopeo docker-archive"),
    ("skopeo copy oci-archive", "skopeo oci-archive"),
    ("tar of a layout by umoci", "skopeo oci"),
    ("tar of a layout by umoci", "umoci"),
    ("crane pull", "docker"),
    ("crane pull", "podman"),
    ("crane pull", "skopeo docker-archive"),
    ("crane pull legacy", "docker"),
    ("crane pull legacy", "podman"),
    ("crane pull legacy", "skopeo docker-archive"),
)


@pytest.mark.parametrize("layout", ["combined", "docker"])
@pytest.mark.parametrize(("saved", "reader"), TRIPS, indirect=["saved"])
def test_a_tool_reads_the_same_image_after_a_round_trip(
    saved: Saved, reader: str, layout: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    imgfs = f"{IMGFS} --store {tmp_path}/store"
    shell(f"{imgfs} load --base-name back {saved.archive}")
    shell(f"{imgfs} save --layout {layout} -o {tmp_path}/back.tar {saved.id}")
    read, tool = READERS[reader]
    client = request.getfixturevalue(tool)
    for name in ("before", "after"):
        (tmp_path / name).mkdir()
    before = read(saved.archive, tmp_path / "before", client)
    after = read(tmp_path / "back.tar", tmp_path / "after", client)
    assert after.id == before.id == saved.id
    if layout == "combined" and saved.manifest:
        assert after.manifest == before.manifest


def _copied(skopeo: Client, source: str, folder: Path) -> Seen:
    skopeo("copy", source, f"dir:{folder}/copy")
    manifest = folder / "copy" / "manifest.json"
    config = json.loads(manifest.read_bytes())["config"]["digest"]
    return Seen(config, shell(f"sha256sum < {manifest}").split()[0])


def _unpacked(archive: Path, folder: Path) -> Path:
    layout = folder / "layout"
    layout.mkdir()
    shell(f"tar -C {layout} -xf {archive}")
    return layout

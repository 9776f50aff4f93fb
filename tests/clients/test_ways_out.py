"""An image that a tool saved loads from its image directory into every other tool: with the same
ID, with the same manifest if the tool keeps manifests, and its container runs.
"""

import json
import sys
from pathlib import Path

import pytest

from tests.clients.client import Client, shell
from tests.clients.containers import Podman
from tests.clients.daemons import Containerd, Dockerd
from tests.clients.images import image_id
from tests.clients.saved import Saved
from tests.mounts import Mounted

TARS = ("tar -C {0} -c .", "tar -C {0} -c $(ls {0})", f"{sys.executable} -m imgfs save {{1}}")
"""The ways to make an archive of an image directory {0}, or of the image {1}."""


@pytest.fixture
def shown(saved: Saved, mounted: Mounted) -> str:
    """Return the image's directory in a mount; name the image if its archive does not."""
    shell(f"cp {saved.archive} {mounted.drop}/x.tar")
    if saved.directory is not None:
        return saved.directory
    (untagged,) = [name for name in mounted.names() if name.startswith("sha256:")]
    (mounted / "named:1").symlink_to(untagged)
    return "named:1"


@pytest.fixture(params=TARS, ids=("dot", "ls", "save"))
def tar(request: pytest.FixtureRequest, shown: str, mounted: Mounted) -> str:
    """Return a command that writes the image's archive to its standard output."""
    made: str = request.param.format(mounted / shown, shown)
    return f"IMGFS_STORE={mounted.store} {made}"


def test_docker_loads(tar: str, shown: str, saved: Saved, dockerd: Dockerd) -> None:
    assert shell(f"{tar} | {dockerd.docker} load") == f"Loaded image: {shown}"
    assert image_id(dockerd.docker, shown) == saved.id
    assert dockerd.run(shown) == saved.says


def test_podman_loads(tar: str, shown: str, saved: Saved, podman: Podman) -> None:
    name = full(shown)
    assert shell(f"{tar} | {podman.podman} load") == f"Loaded image: {name}"
    assert image_id(podman.podman, name) == saved.id
    assert podman.run(name) == saved.says


def test_containerd_imports(tar: str, shown: str, saved: Saved, containerd: Containerd) -> None:
    shell(f"{tar} | {containerd.ctr} images import --all-platforms -")
    name, _, digest = containerd.ctr("images", "ls").splitlines()[1].split()[:3]
    assert name == full(shown)
    assert digest == (saved.manifest or digest)
    assert containerd.run(name) == saved.says


@pytest.mark.parametrize("transport", ["docker-archive", "oci-archive"])
def test_skopeo_reads_the_archive(
    transport: str, shown: str, saved: Saved, mounted: Mounted, skopeo: Client, tmp_path: Path
) -> None:
    shell(f"tar -C {mounted / shown} -cf {tmp_path}/out.tar .")
    skopeo("copy", f"{transport}:{tmp_path}/out.tar", f"dir:{tmp_path}/copy")
    assert copied(tmp_path / "copy")["config"]["digest"] == saved.id


def test_skopeo_copies_by_path(
    shown: str, saved: Saved, mounted: Mounted, skopeo: Client, tmp_path: Path
) -> None:
    skopeo("copy", "--preserve-digests", f"oci:{mounted / shown}", f"dir:{tmp_path}/copy")
    assert copied(tmp_path / "copy")["config"]["digest"] == saved.id
    if saved.manifest:
        sum256 = shell(f"sha256sum < {tmp_path}/copy/manifest.json")
        assert sum256 == f"{saved.manifest.removeprefix('sha256:')}  -"


def test_umoci_unpacks_by_path(
    shown: str, saved: Saved, mounted: Mounted, umoci: Client, tmp_path: Path, busybox_root: Path
) -> None:
    umoci("unpack", "--image", mounted / shown, tmp_path / "bundle")
    unpacked = tmp_path / "bundle" / "rootfs"
    shell(f"cmp {unpacked}/bin/busybox {busybox_root}/bin/busybox")
    command = json.loads((tmp_path / "bundle" / "config.json").read_bytes())["process"]["args"]
    assert shell(f"chroot {unpacked} {' '.join(command)}") == saved.says


def test_a_copied_directory_is_a_layout(
    shown: str, saved: Saved, mounted: Mounted, skopeo: Client, tmp_path: Path
) -> None:
    shell(f"rsync -a {mounted / shown}/ {tmp_path}/layout && chmod -R u+w {tmp_path}/layout")
    skopeo("copy", f"oci:{tmp_path}/layout:1", f"dir:{tmp_path}/copy")
    assert copied(tmp_path / "copy")["config"]["digest"] == saved.id


def full(name: str) -> str:
    """Return the full form of a name that docker prints."""
    first, slash, _ = name.partition("/")
    if slash and ("." in first or ":" in first or first == "localhost"):
        return name
    return f"docker.io/{name}" if slash else f"docker.io/library/{name}"


def copied(directory: Path) -> dict[str, dict[str, str]]:
    """Return the manifest in a directory that skopeo wrote."""
    manifest: dict[str, dict[str, str]] = json.loads((directory / "manifest.json").read_bytes())
    return manifest

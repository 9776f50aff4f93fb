"""Images with Docker's manifests, and names without colons, by the paths that people type."""

import json
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from engine.spec import platforms
from tests import archives, docker_manifests
from tests.archives import ImageParts
from tests.clients.client import Client
from tests.clients.containers import Podman
from tests.docker_manifests import LAYER, LIST, MANIFEST, archive, manifest, manifest_list, member
from tests.mounts import Mounted, run

HERE = platforms.host().architecture
PATHS = ("app:1", "localhost:5000/team/app:1", "sha256:{digest}")


@pytest.fixture(scope="session")
def parts(busybox_root: Path) -> ImageParts:
    tar = subprocess.run(["tar", "-C", busybox_root, "-c", "."], capture_output=True, check=True)
    config = {"config": {"Cmd": ["echo", "hello"]}}
    return ImageParts((tar.stdout, archives.layer("etc/own")), HERE, extra=config)


def load(mounted: Mounted, parts: ImageParts, path: str) -> str:
    """Load an image with a Docker manifest that is to be shown at a path; return the path."""
    if "{digest}" not in path:
        full = path if "/" in path else f"docker.io/library/{path}"
        mounted.load(docker_manifests.saved(full, parts))
        return path
    data = manifest(parts)
    entry = archives.descriptor(data, MANIFEST)
    blobs = [data, parts.config, *map(archives.compressed, parts.layers)]
    mounted.load(archives.tar(archives.oci_members([entry], blobs)))
    return path.format(digest=archives.digest(data)[7:])


@pytest.mark.parametrize("path", PATHS)
def test_skopeo_copies_an_image_by_its_path(
    path: str, parts: ImageParts, mounted: Mounted, skopeo: Client, tmp_path: Path
) -> None:
    path = load(mounted, parts, path)
    (tmp_path / "pushed").mkdir()
    pushed = tmp_path / "digest"
    copied = f"dir:{tmp_path}/pushed"
    skopeo("copy", "--digestfile", pushed, f"oci:{mounted / path}", copied)
    made = archives.digest(parts.manifest(gzipped=True))
    assert pushed.read_text() == made
    reported = json.loads(skopeo("inspect", f"oci:{mounted / path}"))
    assert reported["Digest"] == made
    assert (tmp_path / "pushed" / parts.id[7:]).read_bytes() == parts.config


@pytest.mark.parametrize("path", PATHS)
def test_umoci_unpacks_an_image_by_its_path(
    path: str, parts: ImageParts, mounted: Mounted, umoci: Client, tmp_path: Path
) -> None:
    path = load(mounted, parts, path)
    umoci("unpack", "--image", mounted / path, tmp_path / "bundle")
    assert (tmp_path / "bundle/rootfs/etc/own").exists()


@pytest.mark.parametrize("path", PATHS)
def test_buildah_pulls_an_image_by_its_path(
    path: str, parts: ImageParts, mounted: Mounted, podman: Podman, buildah: Client
) -> None:
    path = load(mounted, parts, path)
    pulled = buildah.run("pull", f"oci:{mounted / path}")
    if b"cannot specify 64-byte hexadecimal strings" in pulled.stderr:
        pytest.skip("this buildah names the image after what follows the colon: see safe names")
    assert pulled.stdout.decode().strip() == parts.id[7:], pulled.stderr
    assert podman.podman("images", "--quiet", "--no-trunc") == parts.id


@pytest.mark.parametrize(
    ("layer_type", "stored"),
    [(LAYER, docker_manifests.as_it_is), (LAYER, archives.compressed)],
    ids=["plain", "plain by its media type alone"],
)
def test_umoci_unpacks_layers_of_other_media_types(
    layer_type: str,
    stored: Callable[[bytes], bytes],
    parts: ImageParts,
    mounted: Mounted,
    umoci: Client,
    tmp_path: Path,
) -> None:
    data = manifest(parts, layer_type, stored)
    blobs = [parts.config, *map(stored, parts.layers)]
    mounted.load(archive("docker.io/library/app:1", data, MANIFEST, blobs))
    umoci("unpack", "--image", mounted / "app:1", tmp_path / "bundle")
    assert (tmp_path / "bundle/rootfs/etc/own").exists()


def test_skopeo_copies_every_platform_of_a_list(
    parts: ImageParts, mounted: Mounted, skopeo: Client, tmp_path: Path
) -> None:
    other = replace(parts, architecture="s390x")
    manifests = [manifest(parts), manifest(other)]
    target = manifest_list(member(manifests[0], parts), member(manifests[1], other))
    blobs = [*manifests, parts.config, other.config, *map(archives.compressed, parts.layers)]
    mounted.load(archive("docker.io/library/app:1", target, LIST, blobs))
    skopeo("copy", "--all", f"oci:{mounted / 'app:1'}", f"dir:{tmp_path}/all")
    for image in (parts, other):
        made = archives.digest(image.manifest(gzipped=True))
        assert (tmp_path / "all" / f"{made[7:]}.manifest.json").exists()


@pytest.fixture
def safe(parts: ImageParts, mount: Callable[..., Mounted]) -> Mounted:
    one = mount(options=("-o", "names=safe"))
    names = ("docker.io/library/app:1", "localhost:5000/team/my--app:1.0")
    one.load(archives.oci_archive(*((parts, name) for name in names)))
    return one


@pytest.mark.parametrize("path", ["app--1", "localhost--5000/team/my---app--1.0"])
def test_podman_mounts_and_loads_safe_names(
    path: str, safe: Mounted, parts: ImageParts, podman: Podman
) -> None:
    podman.podman("load", "-i", safe / path)
    assert podman.podman("images", "--quiet", "--no-trunc") == parts.id
    for option in (f"-v={safe / path}:/tmp:ro", f"--mount=type=bind,src={safe / path},dst=/tmp"):
        reported = podman.podman("run", "--rm", option, parts.id, "ls", "/tmp")
        assert reported.split() == ["blobs", "index.json", "manifest.json", "oci-layout"]


@pytest.mark.parametrize("path", ["app--1", "sha256--{digest}"])
def test_buildah_and_skopeo_read_safe_names(
    path: str,
    safe: Mounted,
    parts: ImageParts,
    podman: Podman,
    buildah: Client,
    skopeo: Client,
) -> None:
    path = path.format(digest=archives.digest(parts.manifest())[7:])
    assert buildah("pull", f"oci:{safe / path}") == parts.id[7:]
    assert podman.podman("images", "--quiet", "--no-trunc") == parts.id
    reported = json.loads(skopeo("inspect", f"oci:{safe / path}"))
    assert reported["Digest"] == archives.digest(parts.manifest())


@pytest.mark.parametrize("path", ["app:1", "localhost--5000/team/my---app:1.0"])
def test_tools_read_tags_in_a_mount_with_safe_names(
    path: str, safe: Mounted, parts: ImageParts, skopeo: Client, umoci: Client, tmp_path: Path
) -> None:
    reported = json.loads(skopeo("inspect", f"oci:{safe / path}"))
    assert reported["Digest"] == archives.digest(parts.manifest())
    umoci("unpack", "--image", safe / path, tmp_path / "bundle")
    assert (tmp_path / "bundle/rootfs/etc/own").exists()


def test_rsync_needs_no_prefix_for_safe_names(safe: Mounted, tmp_path: Path) -> None:
    run("rsync", "-a", "app--1", tmp_path, cwd=safe.path)
    assert (tmp_path / "app--1/oci-layout").exists()

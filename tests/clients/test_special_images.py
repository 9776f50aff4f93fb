"""Images of several platforms, of another platform, without a name and with many names, in every
tool.
"""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from engine.spec import platforms
from tests import archives
from tests.archives import ImageParts
from tests.clients.client import Client, shell
from tests.clients.containers import Podman
from tests.clients.daemons import Containerd, Dockerd
from tests.clients.images import image_id
from tests.mounts import Mounted

HERE = platforms.host().architecture
ELSEWHERE = "arm64" if HERE == "amd64" else "amd64"


@pytest.fixture(scope="session")
def parts(busybox_root: Path) -> ImageParts:
    """Return an image for this machine that prints hello."""
    tar = subprocess.run(["tar", "-C", busybox_root, "-c", "."], capture_output=True, check=True)
    config = {"config": {"Cmd": ["echo", "hello"]}}
    return ImageParts((tar.stdout, archives.layer("etc/own")), HERE, extra=config)


@pytest.fixture
def elsewhere(parts: ImageParts) -> ImageParts:
    """Return the same image for machines of another architecture."""
    return replace(parts, architecture=ELSEWHERE)


@pytest.fixture
def several(parts: ImageParts, elsewhere: ImageParts, mounted: Mounted) -> Path:
    """Load three platforms, one of which the store lacks."""
    absent = replace(parts, architecture="s390x", layers=(archives.layer("absent"),))
    name = "docker.io/library/several:1"
    mounted.load(archives.multi_platform(name, [elsewhere, parts], [absent]))
    return mounted / "several:1"


@pytest.fixture
def foreign(elsewhere: ImageParts, mounted: Mounted) -> Path:
    """Load an index that has only another platform."""
    mounted.load(archives.multi_platform("docker.io/library/foreign:1", [elsewhere]))
    return mounted / "foreign:1"


def test_docker_loads_this_platform(several: Path, parts: ImageParts, dockerd: Dockerd) -> None:
    shell(f"tar -C {several} -c . | {dockerd.docker} load")
    assert image_id(dockerd.docker, "several:1") == parts.id
    assert dockerd.run("several:1") == "hello"


def test_docker_loads_another_platform(
    foreign: Path, elsewhere: ImageParts, dockerd: Dockerd
) -> None:
    shell(f"tar -C {foreign} -c . | {dockerd.docker} load")
    assert image_id(dockerd.docker, "foreign:1") == elsewhere.id


def test_podman_loads_this_platform(several: Path, parts: ImageParts, podman: Podman) -> None:
    shell(f"tar -C {several} -c . | {podman.podman} load")
    assert image_id(podman.podman, "docker.io/library/several:1") == parts.id
    assert podman.run("docker.io/library/several:1") == "hello"


def test_podman_loads_another_platform(
    foreign: Path, elsewhere: ImageParts, podman: Podman
) -> None:
    shell(f"tar -C {foreign} -c . | {podman.podman} load")
    assert podman.podman("images", "-q", "--no-trunc") == elsewhere.id


def test_containerd_imports_this_platform(several: Path, containerd: Containerd) -> None:
    shell(f"tar -C {several} -c . | {containerd.ctr} images import -")
    assert containerd.run("docker.io/library/several:1") == "hello"


def test_containerd_imports_another_platform(foreign: Path, containerd: Containerd) -> None:
    shell(f"tar -C {foreign} -c . | {containerd.ctr} images import --no-unpack --all-platforms -")
    assert containerd.ctr("images", "ls", "-q") == "docker.io/library/foreign:1"


@pytest.mark.parametrize("architecture", [HERE, ELSEWHERE])
def test_skopeo_copies_each_platform_by_path(
    architecture: str,
    several: Path,
    parts: ImageParts,
    skopeo: Client,
    tmp_path: Path,
) -> None:
    skopeo("--override-arch", architecture, "copy", f"oci:{several}", f"dir:{tmp_path}/copy")
    manifest = json.loads((tmp_path / "copy" / "manifest.json").read_bytes())
    assert manifest["config"]["digest"] == replace(parts, architecture=architecture).id


def test_skopeo_copies_from_an_archive(
    several: Path, parts: ImageParts, skopeo: Client, tmp_path: Path
) -> None:
    shell(f"tar -C {several} -cf {tmp_path}/out.tar .")
    for transport in ("oci-archive", "docker-archive"):
        skopeo("copy", f"{transport}:{tmp_path}/out.tar", f"dir:{tmp_path}/{transport}")
        manifest = json.loads((tmp_path / transport / "manifest.json").read_bytes())
        assert manifest["config"]["digest"] == parts.id


def test_umoci_unpacks_the_only_platform(
    elsewhere: ImageParts, mounted: Mounted, umoci: Client, tmp_path: Path
) -> None:
    mounted.load(archives.oci_archive((elsewhere, "docker.io/library/only:1")))
    umoci("unpack", "--image", mounted / "only:1", tmp_path / "bundle")
    assert (tmp_path / "bundle" / "rootfs" / "etc" / "own").exists()


@pytest.fixture
def untagged(parts: ImageParts, mounted: Mounted) -> Path:
    """Load an image without a name."""
    mounted.load(archives.oci_archive((parts, None)))
    return mounted / archives.digest(parts.manifest())


def test_docker_loads_an_untagged_image(
    untagged: Path, parts: ImageParts, dockerd: Dockerd
) -> None:
    said = shell(f"tar -C {untagged} -c . | {dockerd.docker} load")
    assert said == f"Loaded image ID: {parts.id}"
    assert dockerd.run(parts.id) == "hello"


def test_podman_loads_an_untagged_image(untagged: Path, parts: ImageParts, podman: Podman) -> None:
    shell(f"tar -C {untagged} -c . | {podman.podman} load")
    assert podman.podman("images", "-q", "--no-trunc") == parts.id
    assert podman.run(parts.id.removeprefix("sha256:")) == "hello"


def test_containerd_imports_an_untagged_image(
    untagged: Path, parts: ImageParts, containerd: Containerd
) -> None:
    shell(f"tar -C {untagged} -c . | {containerd.ctr} images import --digests -")
    (name,) = containerd.ctr("images", "ls", "-q").splitlines()
    assert name.endswith(f"@{archives.digest(parts.manifest())}")
    assert containerd.run(name) == "hello"


def test_an_untagged_image_is_found_by_path(
    untagged: Path, parts: ImageParts, skopeo: Client, umoci: Client, tmp_path: Path
) -> None:
    skopeo("copy", f"oci:{untagged}", f"dir:{tmp_path}/copy")
    manifest = (tmp_path / "copy" / "manifest.json").read_bytes()
    assert archives.digest(manifest) == archives.digest(parts.manifest())
    umoci("unpack", "--image", untagged, tmp_path / "bundle")
    assert (tmp_path / "bundle" / "rootfs" / "etc" / "own").exists()


@pytest.fixture
def repository(parts: ImageParts, mounted: Mounted) -> Path:
    """Load a repository with three tags of two images in a namespace."""
    name = "registry.test/team/app"
    second = replace(parts, layers=(*parts.layers, archives.layer("etc/second")))
    mounted.load(
        archives.oci_archive((parts, f"{name}:1"), (second, f"{name}:2"), (second, f"{name}:new"))
    )
    return mounted / name


def test_docker_loads_a_whole_repository(
    repository: Path, parts: ImageParts, dockerd: Dockerd
) -> None:
    shell(f"tar -C {repository} -c . | {dockerd.docker} load")
    assert image_id(dockerd.docker, "registry.test/team/app:1") == parts.id
    second = image_id(dockerd.docker, "registry.test/team/app:2")
    assert second == image_id(dockerd.docker, "registry.test/team/app:new") != parts.id


def test_containerd_imports_a_whole_repository(repository: Path, containerd: Containerd) -> None:
    shell(f"tar -C {repository} -c . | {containerd.ctr} images import -")
    names = [f"registry.test/team/app:{tag}" for tag in ("1", "2", "new")]
    assert containerd.ctr("images", "ls", "-q").splitlines() == names


def test_skopeo_finds_each_tag_of_a_repository(
    repository: Path, parts: ImageParts, skopeo: Client
) -> None:
    found = {
        tag: json.loads(skopeo("inspect", "--raw", f"oci:{repository}:{tag}"))["config"]["digest"]
        for tag in ("1", "2", "new")
    }
    assert found["1"] == parts.id != found["2"] == found["new"]


def test_umoci_lists_the_tags_of_a_repository(repository: Path, umoci: Client) -> None:
    assert umoci("ls", "--layout", repository).splitlines() == ["1", "2", "new"]


def test_docker_loads_several_images_of_one_save(
    several: Path, repository: Path, mounted: Mounted, dockerd: Dockerd
) -> None:
    names = f"several:1 {repository.relative_to(mounted.path)}"
    imgfs = f"{sys.executable} -m imgfs --store {mounted.store}"
    shell(f"{imgfs} save {names} | {dockerd.docker} load")
    assert dockerd.run(several.name) == "hello"
    assert dockerd.run("registry.test/team/app:new") == "hello"

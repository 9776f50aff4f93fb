"""Tests that the real clients work on this machine without imgfs."""

import json
import os
from pathlib import Path

import pytest

from tests.clients.client import Client, daemon, directory, require_root, shell
from tests.clients.containers import Podman
from tests.clients.daemons import Containerd, Dockerd
from tests.clients.images import Image, image_id


def test_docker_imports_and_runs(dockerd: Dockerd, docker_image: Image) -> None:
    assert dockerd.run(docker_image.name) == docker_image.says


def test_docker_builds_and_runs(dockerd: Dockerd, docker_built_image: Image) -> None:
    assert dockerd.run(docker_built_image.name) == docker_built_image.says
    layers = dockerd.docker("image", "inspect", "-f", "{{len .RootFS.Layers}}", "built:1")
    assert layers == "3"


def test_docker_saves_and_loads(dockerd: Dockerd, docker_image: Image, tmp_path: Path) -> None:
    archive = tmp_path / "image.tar"
    dockerd.docker("save", "-o", archive, docker_image.name)
    dockerd.clear()
    assert dockerd.docker("images", "-q") == ""
    shell(f"cat {archive} | {dockerd.docker} load")
    assert image_id(dockerd.docker, docker_image.name) == docker_image.id


def test_podman_imports_and_runs(podman: Podman, podman_image: Image) -> None:
    assert podman.run(podman_image.name) == podman_image.says


def test_podman_builds_and_runs(podman: Podman, podman_built_image: Image) -> None:
    assert podman.run(podman_built_image.name) == podman_built_image.says


def test_podman_loads_what_it_saved(podman: Podman, podman_image: Image, tmp_path: Path) -> None:
    archive = tmp_path / "image.tar"
    podman.podman("save", "--format", "oci-archive", "-o", archive, podman_image.name)
    podman.clear()
    with archive.open("rb") as data:
        podman.podman("load", stdin=data)
    assert image_id(podman.podman, podman_image.name) == podman_image.id


def test_buildah_commits_and_podman_runs(podman: Podman, buildah_image: Image) -> None:
    assert podman.run(buildah_image.name) == buildah_image.says


def test_skopeo_copies_between_transports(
    skopeo: Client, umoci_image: Image, dockerd: Dockerd, tmp_path: Path
) -> None:
    archive = tmp_path / "image.tar"
    skopeo("copy", f"oci:{umoci_image.name}", f"docker-archive:{archive}:copied:1")
    dockerd.docker("load", "-i", archive)
    assert image_id(dockerd.docker, "copied:1") == umoci_image.id
    assert dockerd.run("copied:1") == umoci_image.says


def test_skopeo_reads_the_storage_of_podman(skopeo: Client, podman_image: Image) -> None:
    found = json.loads(skopeo("inspect", f"containers-storage:{podman_image.name}"))
    assert found["Name"] == "localhost/imported"


def test_umoci_unpacks(umoci: Client, umoci_image: Image, tmp_path: Path) -> None:
    rootless = ["--rootless"] if os.geteuid() else []
    umoci("unpack", *rootless, "--image", umoci_image.name, tmp_path / "bundle")
    unpacked = tmp_path / "bundle" / "rootfs"
    assert (unpacked / "srv" / "passwd").read_bytes() == (unpacked / "etc" / "passwd").read_bytes()


def test_containerd_imports_and_runs(
    containerd: Containerd, umoci_image: Image, tmp_path: Path
) -> None:
    archive = tmp_path / "image.tar"
    layout, _, tag = umoci_image.name.rpartition(":")
    shell(f"tar -C {layout} -cf {archive} .")
    containerd.ctr("images", "import", "--base-name", "docker.io/library/image", archive)
    assert containerd.ctr("images", "ls", "-q") == f"docker.io/library/image:{tag}"
    assert containerd.run(f"docker.io/library/image:{tag}") == umoci_image.says


def test_every_test_starts_with_empty_storages(
    dockerd: Dockerd, containerd: Containerd, podman: Podman
) -> None:
    assert dockerd.docker("images", "-q", "--all") == ""
    assert containerd.ctr("content", "ls", "-q") == ""
    assert podman.podman("images", "-q", "--all") == ""


def test_a_failed_client_raises_an_error_with_its_output(tmp_path: Path) -> None:
    client = Client(("ls",), {"LC_ALL": "C"})
    with pytest.raises(AssertionError, match="No such file"):
        client(tmp_path / "absent")


def test_a_directory_is_removed_with_the_mounts_below(tmp_path: Path) -> None:
    require_root("a mount")
    with directory(tmp_path / "gone") as path:
        (path / "mnt").mkdir()
        shell(f"mount -t tmpfs tmpfs {path}/mnt && touch {path}/mnt/file")
    assert not path.exists()
    assert str(path) not in Path("/proc/self/mountinfo").read_text()


def test_a_daemon_that_cannot_start_raises_an_error_with_its_log(tmp_path: Path) -> None:
    require_root("a daemon")
    starting = daemon("sh", "-c", "echo no luck >&2; exit 1", log=tmp_path / "log", ready=bool)
    with pytest.raises(AssertionError, match="no luck"), starting:
        pass


def test_a_daemon_ends_with_what_it_started(tmp_path: Path) -> None:
    require_root("a daemon")
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    script = f"(setsid tail -f /dev/null >{pipe}) & echo started >{tmp_path}/ready; wait"
    with daemon("sh", "-c", script, log=tmp_path / "log", ready=(tmp_path / "ready").exists):
        reader = pipe.open("rb")
    with reader:
        assert reader.read() == b"", "its end means that nobody holds the pipe any more"

"""Other tools unpack and run the images that `imgfs commit` makes."""

import json
import os
import shutil
import sys
from pathlib import Path

import pytest

from engine.filetree.directory import scan
from tests.clients.client import Client, shell
from tests.clients.containers import Podman
from tests.clients.daemons import Containerd, Dockerd
from tests.clients.images import image_id
from tests.filetree.layers import applied
from tests.trees import make_odd, picture

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="devices and owners need root")


@pytest.fixture
def imgfs(tmp_path: Path) -> Client:
    return Client((sys.executable, "-m", "imgfs", "--store", str(tmp_path / "store")))


@pytest.fixture
def odd(busybox_root: Path, tmp_path: Path) -> Path:
    """Return a root with a shell and every type of file."""
    root = tmp_path / "odd"
    shutil.copytree(busybox_root, root, symlinks=True)
    shutil.rmtree(root / "etc")
    shutil.rmtree(root / "tmp")
    make_odd(root)
    return root


def change(root: Path) -> None:
    """Change a root in the ways that a layer can record: removals, other types, renames, hard
    links.
    """
    (root / "empty").unlink()
    (root / "noted").unlink()
    (root / "noted").mkdir()
    (root / "noted" / "inside").touch()
    shutil.rmtree(root / "etc/deep")
    (root / "etc/deep").write_text("a file now")
    (root / ("long" * 50)).rename(root / "short")
    (root / "a-hard").write_text("written through a link")
    (root / "etc/zz-hard").unlink()
    os.link(root / "suid", root / "suid-too")


@pytest.fixture(params=["gzip", "zstd", "uncompressed"])
def two_layers(request: pytest.FixtureRequest, odd: Path, imgfs: Client) -> str:
    """Return an image of two layers of each compression; the second is a difference."""
    how = ("--compression", request.param)
    imgfs("commit", *how, "-c", 'CMD ["echo", "made"]', odd, "odd:1")
    change(odd)
    imgfs("commit", *how, "--base", "odd:1", odd, "odd:2")
    return f"{imgfs} save odd:2"


WITHOUT_ZSTD = pytest.mark.parametrize("two_layers", ["gzip", "uncompressed"], indirect=True)
"""Return a gzip image for tools that are older than zstd."""


@WITHOUT_ZSTD
def test_umoci_unpacks_the_same_tree(
    two_layers: str, odd: Path, umoci: Client, tmp_path: Path
) -> None:
    shell(f"mkdir {tmp_path}/layout && {two_layers} | tar -C {tmp_path}/layout -x")
    umoci("unpack", "--image", f"{tmp_path}/layout:2", tmp_path / "bundle")
    assert picture(scan(tmp_path / "bundle" / "rootfs")) == picture(scan(odd))


def test_podman_has_the_same_tree(two_layers: str, odd: Path, podman: Podman) -> None:
    shell(f"{two_layers} | {podman.podman} load")
    place = podman.podman("image", "mount", "docker.io/library/odd:2")
    try:
        assert picture(scan(Path(place))) == picture(scan(odd))
    finally:
        podman.podman("image", "unmount", "docker.io/library/odd:2")
    assert podman.run("docker.io/library/odd:2") == "made"


@WITHOUT_ZSTD
def test_docker_runs_a_committed_image(two_layers: str, imgfs: Client, dockerd: Dockerd) -> None:
    shell(f"{two_layers} | {dockerd.docker} load")
    assert image_id(dockerd.docker, "odd:2") == json.loads(imgfs("inspect", "odd:2"))[0]["Id"]
    assert dockerd.run("odd:2") == "made"


@WITHOUT_ZSTD
def test_docker_has_the_same_tree(two_layers: str, odd: Path, dockerd: Dockerd) -> None:
    shell(f"{two_layers} | {dockerd.docker} load")
    container = dockerd.docker("create", "odd:2")
    try:
        exported = picture(applied([dockerd.docker.output("export", container)]))
    finally:
        dockerd.docker("rm", container)
    for path, reported in picture(scan(odd)).items():
        if path not in ("etc", "links"):  # docker adds its own files to etc
            assert exportable(exported[path]) == exportable(reported), path


def exportable(reported: object) -> object:
    """Return what docker exports of an entry: whole seconds, and no user attributes."""
    assert isinstance(reported, tuple)
    kind, mode, uid, gid, mtime_ns, *facts, xattrs, content = reported
    facts += [kind, mode, uid, gid, mtime_ns // 10**9]
    return facts, "security.capability" in xattrs, content


def test_containerd_runs_a_committed_image(two_layers: str, containerd: Containerd) -> None:
    shell(f"{two_layers} | {containerd.ctr} images import -")
    assert containerd.run("docker.io/library/odd:2") == "made"


@pytest.mark.parametrize("kind", ["--oci", "--docker"])
def test_tools_select_from_three_platforms(
    kind: str,
    busybox_root: Path,
    imgfs: Client,
    dockerd: Dockerd,
    podman: Podman,
    containerd: Containerd,
) -> None:
    wanted = [
        f"--platform={p}={busybox_root}" for p in ("linux/s390x", "linux/amd64", "linux/arm64")
    ]
    imgfs("commit", kind, "-c", 'CMD ["echo", "made"]', *wanted, "three:1")
    for tool in (
        f"{dockerd.docker} load",
        f"{podman.podman} load",
        f"{containerd.ctr} images import -",
    ):
        shell(f"{imgfs} save three:1 | {tool}")
    assert dockerd.run("three:1") == "made"
    assert podman.podman("run", "--rm", "--network", "none", "three:1") == "made"
    assert containerd.run("docker.io/library/three:1") == "made"


def test_an_image_of_an_upper_directory_has_the_merged_tree(
    busybox_root: Path, imgfs: Client, umoci: Client, tmp_path: Path
) -> None:
    lower, upper, work, merged = (tmp_path / name for name in ("lower", "upper", "work", "merged"))
    shutil.copytree(busybox_root, lower, symlinks=True)
    for path in (upper, work, merged):
        path.mkdir()
    (lower / "gone").mkdir()
    (lower / "kept" / "old").mkdir(parents=True)
    imgfs("commit", lower, "lower:1")
    options = f"lowerdir={lower},upperdir={upper},workdir={work}"
    if Client(("mount",)).run("-t", "overlay", "overlay", "-o", options, merged).returncode:
        pytest.skip("no overlayfs here")
    try:
        (merged / "gone").rmdir()
        shutil.rmtree(merged / "kept")
        (merged / "kept").mkdir()
        (merged / "kept" / "new").write_text("x")
        (merged / "etc" / "passwd").unlink()
        expected = picture(scan(merged))
    finally:
        shell(f"umount {merged}")
    imgfs("commit", "--base", "lower:1", "--upper", upper, "upper:1")
    shell(f"mkdir {tmp_path}/layout && {imgfs} save upper:1 | tar -C {tmp_path}/layout -x")
    umoci("unpack", "--image", f"{tmp_path}/layout:1", tmp_path / "bundle")
    assert picture(scan(tmp_path / "bundle" / "rootfs")) == expected

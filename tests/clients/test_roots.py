"""Programs that run in the root of an image, and tools that compare it."""

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import archives
from tests.archives import ImageParts
from tests.clients.client import Client, find, require_root
from tests.clients.containers import Podman
from tests.filetree.layers import directory, file, hardlink, layer
from tests.mounts import Mounted, overlay, run

CHANGES = layer(
    *map(directory, ("dev", "proc", "sys")),
    file("etc/.wh.passwd"),
    directory("tmp", 0o1777, mtime=5),
    file("tmp/.wh..wh..opq"),
    file("etc/motd", "hello from an image\n", mtime=6),
    hardlink("etc/issue", "etc/motd"),
)
HELLO = ("/bin/cat", "/etc/motd")


@pytest.fixture
def root(mounted: Mounted, busybox_root: Path) -> Path:
    """The root of an image of two layers."""
    require_root("mount")
    tar = subprocess.run(["tar", "-C", busybox_root, "-c", "."], capture_output=True, check=True)
    image = ImageParts((tar.stdout, CHANGES))
    mounted.load(archives.oci_archive((image, "app:1"), gzipped=True))
    return mounted / "rootfs/app:1"


@pytest.fixture
def upper(tmp_path: Path) -> Iterator[tuple[str, str]]:
    """The options of an overlay whose upper directory is on tmpfs."""
    (tmp_path / "upper").mkdir()
    run("mount", "-t", "tmpfs", "none", tmp_path / "upper")
    try:
        for name in ("changes", "work"):
            (tmp_path / "upper" / name).mkdir()
        yield f"upperdir={tmp_path}/upper/changes", f"workdir={tmp_path}/upper/work"
    finally:
        run("umount", tmp_path / "upper")


def test_rsync_finds_no_difference_to_what_umoci_unpacks(
    root: Path, mounted: Mounted, umoci: Client, tmp_path: Path
) -> None:
    umoci("unpack", "--image", mounted / "app:1", tmp_path / "bundle")
    rsync = Client((find("rsync"), "-naHAXci", "--delete"))
    assert rsync(f"{root}/", f"{tmp_path}/bundle/rootfs/") == ""


def test_a_process_in_an_overlay_of_a_root(
    root: Path, upper: tuple[str, str], tmp_path: Path
) -> None:
    with overlay(tmp_path / "overlay", [root], *upper) as at:
        script = "cat /etc/motd; echo new > /etc/issue; ls /etc"
        found = run("chroot", at, "/bin/sh", "-c", script).stdout.decode()
        assert found == "hello from an image\nissue\nmotd\n"
        assert (at / "etc/issue").read_text() == "new\n"
    assert (root / "etc/issue").read_text() == "hello from an image\n"


def test_an_overlay_of_the_layers_is_the_root(root: Path, mounted: Mounted, tmp_path: Path) -> None:
    layers = sorted((mounted / "layers/app:1").iterdir(), reverse=True)
    rsync = Client((find("rsync"), "-naHAXci", "--delete"))
    with overlay(tmp_path / "overlay", layers, "ro") as at:
        assert rsync(f"{at}/", f"{root}/") == ""


def test_bubblewrap(root: Path) -> None:
    bubblewrap = Client((find("bwrap"), "--ro-bind", str(root), "/", "--dev", "/dev"))
    assert bubblewrap(*HELLO) == "hello from an image"


def test_podman(root: Path, podman: Podman) -> None:
    options = ("run", "--rm", "--network", "none", "--rootfs", f"{root}:O")
    assert podman.podman(*options, *HELLO) == "hello from an image"


def test_runc(root: Path, tmp_path: Path) -> None:
    runc = Client((find("runc"), "--root", str(tmp_path / "state")))
    runc("spec", "--bundle", tmp_path)
    config = json.loads((tmp_path / "config.json").read_bytes())
    config["root"] = {"path": str(root), "readonly": True}
    config["process"] |= {"terminal": False, "args": list(HELLO), "rlimits": []}
    (tmp_path / "config.json").write_text(json.dumps(config))
    assert runc("run", "--bundle", tmp_path, f"imgfs-{os.getpid()}") == "hello from an image"

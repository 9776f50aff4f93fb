"""Directories that `imgfs save -o DIR/` writes, in the tools that read layouts, and added to by
them.
"""

import json
import sys
from pathlib import Path

import pytest

from tests import archives
from tests.archives import ImageParts
from tests.cli.command import Command, names, succeeded
from tests.clients.client import Client, shell
from tests.clients.containers import Podman
from tests.clients.daemons import Containerd, Dockerd
from tests.clients.images import image_id
from tests.clients.saved import Saved
from tests.mounts import Mounted, run

IMGFS = f"{sys.executable} -m imgfs"
APP = ImageParts(layers=[archives.layer("app"), archives.layer("shared")])
OTHER = ImageParts(layers=[archives.layer("other"), archives.layer("shared")])


@pytest.fixture(params=["combined", "docker"])
def layout(request: pytest.FixtureRequest, saved: Saved, tmp_path: Path) -> Path:
    """Return the directory; its image is called `named:1`."""
    imgfs = f"{IMGFS} --store {tmp_path}/store"
    shell(f"{imgfs} load -q -i {saved.archive}")
    shell(f"{imgfs} tag {saved.id} named:1")
    shell(f"{imgfs} save --layout {request.param} -o {tmp_path}/layout/ named:1")
    return tmp_path / "layout"


def test_docker_loads(layout: Path, saved: Saved, dockerd: Dockerd) -> None:
    assert shell(f"tar -C {layout} -c . | {dockerd.docker} load") == "Loaded image: named:1"
    assert image_id(dockerd.docker, "named:1") == saved.id
    assert dockerd.run("named:1") == saved.says


def test_podman_loads(layout: Path, saved: Saved, podman: Podman) -> None:
    podman.podman("load", "-i", layout)
    assert image_id(podman.podman, saved.id[7:]) == saved.id
    assert podman.run(saved.id[7:]) == saved.says


def test_buildah_pulls(layout: Path, saved: Saved, podman: Podman, buildah: Client) -> None:
    assert buildah("pull", f"oci:{layout}:1").endswith(saved.id[7:])
    assert podman.run(saved.id[7:]) == saved.says


def test_containerd_imports(layout: Path, saved: Saved, containerd: Containerd) -> None:
    shell(f"tar -C {layout} -c . | {containerd.ctr} images import --all-platforms -")
    assert containerd.run("docker.io/library/named:1") == saved.says


def test_skopeo_reads(layout: Path, saved: Saved, skopeo: Client, tmp_path: Path) -> None:
    assert json.loads(skopeo("inspect", "--config", "--raw", f"oci:{layout}:1"))
    skopeo("copy", f"oci:{layout}:1", f"dir:{tmp_path}/copy")
    manifest = json.loads((tmp_path / "copy/manifest.json").read_bytes())
    assert manifest["config"]["digest"] == saved.id


def test_umoci_unpacks(layout: Path, umoci: Client, tmp_path: Path, busybox_root: Path) -> None:
    umoci("unpack", "--image", f"{layout}:1", tmp_path / "bundle")
    shell(f"cmp {tmp_path}/bundle/rootfs/bin/busybox {busybox_root}/bin/busybox")


def test_imgfs_loads(layout: Path, saved: Saved, tmp_path: Path) -> None:
    again = Command(tmp_path / "again")
    succeeded(again("load", stdin=run("tar", "-C", layout, "-c", ".").stdout))
    assert names(again.store) == {"named:1": saved.id}


def test_it_is_the_directory_of_a_mount(mounted: Mounted, tmp_path: Path) -> None:
    mounted.load(archives.oci_archive((APP, "docker.io/library/app:1")))
    succeeded(Command(mounted.store)("save", "-o", f"{tmp_path}/layout/", "app:1"))
    run("diff", "-r", mounted / "app:1", tmp_path / "layout")


def test_a_mount_loads_what_is_saved_below_import(mounted: Mounted, tmp_path: Path) -> None:
    imgfs = Command(tmp_path / "store")
    succeeded(imgfs("load", stdin=archives.oci_archive((APP, "docker.io/library/app:1"))))
    succeeded(imgfs("save", "-o", f"{mounted.drop}/app/", "app:1"))
    assert "app:1" in mounted.names()


def test_skopeo_and_imgfs_write_by_turns(skopeo: Client, tmp_path: Path) -> None:
    """Each keeps what the other has written; a tag is the name in a layout."""
    imgfs, layout = Command(tmp_path / "store"), tmp_path / "layout"
    succeeded(imgfs("load", stdin=archives.oci_archive((APP, "docker.io/library/app:1"))))
    other = tmp_path / "other.tar"
    other.write_bytes(archives.docker_archive((OTHER, ["other:2"])))
    skopeo("copy", f"docker-archive:{other}", f"oci:{layout}:2")
    skopeo("copy", f"docker-archive:{other}", f"oci:{layout}:1")
    succeeded(imgfs("save", "-o", layout, "app:1"))
    skopeo("copy", f"docker-archive:{other}", f"oci:{layout}:3")
    found = {}
    for tag in "123":
        skopeo("copy", f"oci:{layout}:{tag}", f"dir:{tmp_path}/{tag}")
        manifest = json.loads((tmp_path / tag / "manifest.json").read_bytes())
        found[tag] = manifest["config"]["digest"]
    assert found["1"] == APP.id
    assert found["2"] == found["3"] != APP.id


def test_umoci_and_imgfs_write_by_turns(umoci: Client, tmp_path: Path) -> None:
    imgfs, layout = Command(tmp_path / "store"), tmp_path / "layout"
    succeeded(imgfs("load", stdin=archives.oci_archive((APP, "docker.io/library/app:1"))))
    umoci("init", "--layout", layout)
    umoci("new", "--image", f"{layout}:made")
    succeeded(imgfs("save", "-o", layout, "app:1"))
    umoci("gc", "--layout", layout)
    assert set(umoci("ls", "--layout", layout).split()) == {"1", "made"}
    for blob in APP.blobs():
        assert (layout / "blobs/sha256" / archives.digest(blob)[7:]).read_bytes() == blob

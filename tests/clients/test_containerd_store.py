"""A mount of a containerd's images, beside ctr."""

import hashlib
import json
import os
import shutil
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.clients.client import Client, shell
from tests.clients.daemons import Containerd
from tests.clients.images import Image
from tests.mounts import IMGFS, Mounted
from tests.stores.containerd.server import lacking, running
from tests.waiting import wait_until

NAME = "docker.io/library/app:1"


@pytest.fixture
def archive(skopeo: Client, umoci_image: Image, tmp_path: Path) -> Path:
    path = tmp_path / "app.tar"
    skopeo("copy", f"oci:{umoci_image.name}", f"oci-archive:{path}:{NAME}")
    return path


@pytest.fixture
def shown(
    containerd: Containerd,
    mount: Callable[..., Mounted],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Mounted:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return mount(containerd.url)


def test_what_ctr_imports_is_a_directory_at_once(
    containerd: Containerd,
    shown: Mounted,
    archive: Path,
    skopeo: Client,
    umoci_image: Image,
    busybox_root: Path,
) -> None:
    containerd.ctr("images", "import", "--no-unpack", archive)
    assert shown.names() == ["app:1", "import"]
    assert shown.names(".imgfs") == ["events", "imports", "status.json"]
    assert shown.status("images") == 1
    assert (shown / "rootfs/app:1/bin/busybox").read_bytes() == (
        busybox_root / "bin/busybox"
    ).read_bytes()
    shell(f"tar -C {shown / 'app:1'} -c . | {containerd.ctr} images import --base-name again -")
    config = json.loads(skopeo("inspect", "--config", "--raw", f"oci:{shown.path}/app:1"))
    assert config == json.loads(skopeo("inspect", "--config", "--raw", f"oci:{umoci_image.name}"))
    containerd.ctr("images", "rm", NAME)
    assert not (shown / "app:1").exists()


def test_what_is_copied_into_import_runs(
    containerd: Containerd, shown: Mounted, archive: Path
) -> None:
    shell(f"cp {archive} {shown.drop}/x.tar")
    assert shown.report("x.tar")["status"] == "loaded"
    assert containerd.run(NAME) == "inserted"
    os.rename(shown / "app:1", shown / "app:2")
    assert containerd.ctr("images", "ls", "-q") == "docker.io/library/app:2"
    (shown / "app:2").rmdir()
    assert "app" not in containerd.ctr("images", "ls", "-q")


def test_tags_and_directories_are_ctrs_at_once(
    containerd: Containerd, shown: Mounted, archive: Path, umoci_image: Image
) -> None:
    containerd.ctr("images", "import", "--no-unpack", archive)
    os.symlink("app:1", shown / "app:latest")
    (shown / "team").mkdir()
    os.rename(shown / "app:1", shown / "team/x:2")
    layout = umoci_image.name.rpartition(":")[0]
    shell(f"cp -r {layout} {shown.drop}/copy")
    listed = ("docker.io/library/app:latest", "docker.io/library/copy:1", "docker.io/team/x:2")
    assert tuple(containerd.ctr("images", "ls", "-q").split()) == listed
    imgfs = Client((*IMGFS, "--store", containerd.url))
    imgfs("tag", "team/x:2", "app:3")
    imgfs("rm", "team/x:2", "copy:1")
    assert shown.names() == ["app:3", "app:latest", "import"]
    target = os.getxattr(shown / "app:3", "user.oci.digest").decode()
    shell(f"rm -r {shown.path}/app:3 {shown.path}/app:latest")
    assert containerd.ctr("images", "ls", "-q") == target
    imgfs("rm", target)
    containerd.ctr("leases", "create", "--id", "ends")
    containerd.ctr("leases", "rm", "--sync", "ends")
    assert containerd.ctr("content", "ls", "-q") == ""


def test_layers_that_are_gone_are_named(
    containerd: Containerd, shown: Mounted, archive: Path
) -> None:
    containerd.ctr("images", "import", "--no-unpack", archive)
    image, root = shown / "app:1", shown / "rootfs/app:1"
    layer = max(image.glob("blobs/sha256/*"), key=lambda blob: blob.stat().st_size)
    with layer.open("rb") as opened:
        containerd.ctr("content", "rm", f"sha256:{layer.name}")
        assert hashlib.sha256(opened.read()).hexdigest() == layer.name
    for directory in (image, root):
        with pytest.raises(OSError, match="No data available"):
            os.listdir(directory)
    assert os.getxattr(image, "user.oci.missing").decode() == f"sha256:{layer.name}"


def test_a_mount_outlives_its_containerd(
    mount: Callable[..., Mounted], archive: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if reason := lacking():
        pytest.skip(reason)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    with running(tmp_path / "c") as server:
        shown = mount(server.url("test"))
        shell(f"cp {archive} {shown.drop}/x.tar")
        layer = max((shown / "app:1").glob("blobs/sha256/*"), key=lambda blob: blob.stat().st_size)
        with layer.open("rb") as opened:
            server.stop(signal.SIGKILL)
            wait_until(lambda: not is_listed(shown), "the mount notices")
            assert os.fstat(opened.fileno()).st_nlink == 1
            assert hashlib.sha256(opened.read()).hexdigest() == layer.name
            with pytest.raises(OSError, match="No route to host"):
                shutil.copyfile(archive, shown.drop / "y.tar")
        server.start()
        assert is_listed(shown)
        shell(f"cp {archive} {shown.drop}/y.tar")
        os.rename(shown / "app:1", shown / "app:2")
        assert shown.names() == ["app:2", "import"]


def is_listed(shown: Mounted) -> bool:
    try:
        return "app:1" in shown.names()
    except OSError:
        return False


def test_what_is_committed_runs(
    containerd: Containerd, shown: Mounted, archive: Path, tmp_path: Path
) -> None:
    containerd.ctr("images", "import", "--no-unpack", archive)
    root = tmp_path / "root"
    shell(f"cp -a {shown / 'rootfs/app:1'} {root} && echo changed > {root}/etc/passwd")
    imgfs = Client((*IMGFS, "--store", containerd.url))
    change = 'CMD ["cat", "/etc/passwd"]'
    imgfs("commit", "--base", "app:1", "--change", change, root, "app:2")
    assert containerd.run("docker.io/library/app:2") == "changed"
    assert imgfs("diff", "app:1", "app:2").split() == ["C", "/etc", "C", "/etc/passwd"]


def test_an_image_that_lost_its_name_says_none(
    containerd: Containerd, shown: Mounted, archive: Path, tmp_path: Path
) -> None:
    containerd.ctr("images", "import", "--no-unpack", archive)
    (tagged,) = json.loads((shown / "app:1/index.json").read_bytes())["manifests"]
    assert tagged["annotations"]["io.containerd.image.name"] == NAME
    target = os.getxattr(shown / "app:1", "user.oci.digest").decode()
    (shown / "app:1").rmdir()
    (untagged,) = json.loads((shown / target / "index.json").read_bytes())["manifests"]
    saved = tmp_path / "saved.tar"
    Client((*IMGFS, "--store", containerd.url))("save", "-o", saved, target)
    (written,) = json.loads(shell(f"tar -xOf {saved} index.json"))["manifests"]
    for entry in (untagged, written):
        assert entry["digest"] == target
        assert "annotations" not in entry

"""A mount of a containerd's images, beside ctr."""

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.clients.client import Client, shell
from tests.clients.daemons import Containerd
from tests.clients.images import Image
from tests.mounts import IMGFS, Mounted

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

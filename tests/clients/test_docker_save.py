"""Archives that a tool saved, loaded and saved by `imgfs save --layout docker`, load into every
other tool with the same image ID, and their containers run.
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

IMGFS = f"{sys.executable} -m imgfs --store"


@pytest.fixture
def archive(saved: Saved, tmp_path: Path) -> Path:
    """Return the archive; its image also has the name `named:1`."""
    imgfs = f"{IMGFS} {tmp_path}/store"
    shell(f"{imgfs} load -q -i {saved.archive}")
    shell(f"{imgfs} tag {saved.id} named:1")
    shell(f"{imgfs} save --layout docker -o {tmp_path}/out.tar named:1")
    return tmp_path / "out.tar"


def test_docker_loads(archive: Path, saved: Saved, dockerd: Dockerd) -> None:
    assert shell(f"{dockerd.docker} load -i {archive}") == "Loaded image: named:1"
    assert image_id(dockerd.docker, "named:1") == saved.id
    assert dockerd.run("named:1") == saved.says


def test_podman_loads(archive: Path, saved: Saved, podman: Podman) -> None:
    shell(f"{podman.podman} load -i {archive}")
    (name,) = json.loads(podman.podman("images", "--format", "json"))[0]["Names"]
    assert name.endswith("/named:1")
    assert image_id(podman.podman, name) == saved.id
    assert podman.run(name) == saved.says


def test_containerd_imports(archive: Path, saved: Saved, containerd: Containerd) -> None:
    shell(f"{containerd.ctr} images import {archive}")
    assert containerd.run("docker.io/library/named:1") == saved.says


@pytest.mark.parametrize("transport", ["docker-archive", "oci-archive"])
def test_skopeo_reads_the_archive(
    transport: str, archive: Path, saved: Saved, skopeo: Client, tmp_path: Path
) -> None:
    skopeo("copy", f"{transport}:{archive}", f"dir:{tmp_path}/copy")
    manifest = json.loads((tmp_path / "copy/manifest.json").read_text())
    assert manifest["config"]["digest"] == saved.id

"""`imgfs import` and `imgfs cp` do what docker import and docker cp do."""

import json
import os
import sys
import tarfile
from pathlib import Path

import pytest

from engine.filetree.directory import scan
from tests.clients.client import Client, shell
from tests.clients.daemons import Dockerd
from tests.clients.images import Image
from tests.trees import picture

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="owners need root")


@pytest.fixture
def imgfs(tmp_path: Path) -> Client:
    return Client((sys.executable, "-m", "imgfs", "--store", str(tmp_path / "store")))


def test_docker_imports_a_tar_as_the_same_layer(
    dockerd: Dockerd, busybox_root: Path, imgfs: Client, tmp_path: Path
) -> None:
    docker = dockerd.docker
    with tarfile.open(tmp_path / "root.tar", "w") as tar:
        tar.add(busybox_root, "")
    docker("import", "-c", 'CMD ["echo", "made"]', tmp_path / "root.tar", "theirs:1")
    imgfs("import", "-c", 'CMD ["echo", "made"]', tmp_path / "root.tar", "ours:1")
    (theirs,) = json.loads(docker("inspect", "theirs:1"))
    (ours,) = json.loads(imgfs("inspect", "ours:1"))
    assert ours["RootFS"]["Layers"] == theirs["RootFS"]["Layers"]
    assert ours["Config"]["Cmd"] == theirs["Config"]["Cmd"]
    shell(f"{imgfs} save ours:1 | {docker} load")
    assert docker("run", "--rm", "--network", "none", "ours:1").strip() == "made"


SOURCES = ("/bin", "/bin/.", "/bin/busybox", "/bin/sh")
DESTINATIONS = ("new", "there", "there/")


@pytest.mark.parametrize("source", SOURCES)
def test_docker_copies_the_same_files(
    docker_image: Image, dockerd: Dockerd, imgfs: Client, tmp_path: Path, source: str
) -> None:
    docker = dockerd.docker
    shell(f"{docker} save {docker_image.name} | {imgfs} load")
    docker("create", "--name", "box", docker_image.name, "true")
    for number, destination in enumerate(DESTINATIONS):
        pictures = []
        for who, origin in ((docker, "box"), (imgfs, docker_image.name)):
            place = tmp_path / f"{number}{origin.partition(':')[0]}"
            (place / "there").mkdir(parents=True)
            who("cp", "-a", f"{origin}:{source}", f"{place}/{destination}")
            os.utime(place / "there", ns=(0, 0))  # the time of the copy
            pictures.append(sorted(picture(scan(place)).items()))
        assert pictures[0] == pictures[1]
    docker("rm", "box")

"""What a container changed, as docker diff prints it, imgfs prints of the committed image."""

import sys
from pathlib import Path

import pytest

from tests.clients.client import Client, shell
from tests.clients.daemons import Dockerd
from tests.clients.images import Image

CHANGES = """
mkdir -p /made/deep && echo 1 > /made/deep/file
echo more >> /bin/busybox.txt
rm -r /removed && rm /dir/file
rm -r /replaced && echo file > /replaced
rm /file && mkdir /file && echo 1 > /file/in
chmod 700 /mode && chown 5:6 /owner
ln -s target /link
"""
SETUP = """
mkdir -p /removed/deep /dir /replaced /mode /same/deep
touch /removed/deep/x /dir/file /dir/kept /replaced/x /file /owner /same/deep/x /bin/busybox.txt
"""


@pytest.fixture
def imgfs(tmp_path: Path) -> Client:
    return Client((sys.executable, "-m", "imgfs", "--store", str(tmp_path / "store")))


def test_docker_diff(docker_image: Image, dockerd: Dockerd, imgfs: Client) -> None:
    docker = dockerd.docker

    def changed(image: str, script: str, name: str) -> list[str]:
        docker("run", "--name", name, "--network", "none", image, "/bin/sh", "-ec", script)
        docker("commit", name, f"{name}:1")
        return docker("diff", name).splitlines()

    changed(docker_image.name, SETUP, "before")
    expected = changed("before:1", CHANGES, "after")
    shell(f"{docker} save before:1 after:1 | {imgfs} load")
    for found in (imgfs("diff", "before:1", "after:1"), imgfs("diff", "after:1")):
        assert sorted(found.splitlines()) == sorted(expected)  # docker's order is of chance

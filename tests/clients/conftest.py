"""Fixtures: real docker, containerd, podman, buildah, skopeo and umoci; tests are skipped where a
tool is missing.

Daemons and storages are kept for all tests, and emptied after each test that used them, so that an
image which a test loads was not there before.
"""

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.clients import images
from tests.clients.client import Client, directory, find, require_root
from tests.clients.containers import DRIVERS, Podman, environment, use_driver
from tests.clients.daemons import Containerd, Dockerd, running_containerd, running_dockerd
from tests.clients.images import Image
from tests.clients.saved import MAKERS, SHAPES, Saved


@pytest.fixture(autouse=True)
def _patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the stores of this process wait longer for a registry's first answer."""
    monkeypatch.setattr("engine.stores.registry.lookup._LONGER_PATIENCE", 60.0)
    monkeypatch.setattr("engine.stores.registry.client._PROBE_SECONDS", 60)


@pytest.fixture(scope="session")
def busybox_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a root file system that has one static busybox."""
    busybox = find("busybox")
    if not subprocess.run(["ldd", busybox], capture_output=True, check=False).returncode:
        pytest.skip("busybox is not static (package busybox-static)")
    return images.make_root(tmp_path_factory.mktemp("busybox") / "root")


@pytest.fixture(scope="session")
def _dockerd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Dockerd]:
    require_root("dockerd")
    find("dockerd")
    with (
        directory(tmp_path_factory.mktemp("docker") / "d") as root,
        running_dockerd(root) as running,
    ):
        yield running


@pytest.fixture
def dockerd(_dockerd: Dockerd) -> Iterator[Dockerd]:
    """Provide a docker daemon without images: dockerd.docker("load", stdin=archive),
    dockerd.run(name).
    """
    yield _dockerd
    _dockerd.clear()


@pytest.fixture(scope="session")
def _containerd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Containerd]:
    require_root("containerd")
    find("containerd")
    with (
        directory(tmp_path_factory.mktemp("containerd") / "c") as root,
        running_containerd(root) as running,
    ):
        yield running


@pytest.fixture
def containerd(_containerd: Containerd) -> Iterator[Containerd]:
    """Provide a containerd without images: containerd.ctr("images", "import", path)."""
    yield _containerd
    _containerd.clear()


@pytest.fixture(scope="session")
def containers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """Return the environment that restricts podman, buildah and skopeo to a directory."""
    with directory(tmp_path_factory.mktemp("containers") / "s") as root:
        yield environment(root)


@pytest.fixture(scope="session")
def _podman(containers: dict[str, str]) -> Podman:
    require_root("podman")
    podman = Client((find("podman"),), containers)
    root = Path(containers["CONTAINERS_STORAGE_CONF"]).parent
    for driver in DRIVERS:
        use_driver(root, driver)
        if podman.run("info").returncode == 0:
            break
    return Podman(podman)


@pytest.fixture
def podman(_podman: Podman) -> Iterator[Podman]:
    """Provide podman without images: podman.podman("load", "-i", path), podman.run(name)."""
    yield _podman
    _podman.clear()


@pytest.fixture(scope="session")
def buildah(containers: dict[str, str]) -> Client:
    """Return buildah, which works on the storage of `podman`."""
    return Client((find("buildah"),), containers)


@pytest.fixture(scope="session")
def skopeo(containers: dict[str, str]) -> Client:
    """Return skopeo; its containers-storage: is that of `podman`."""
    return Client((find("skopeo"), "--insecure-policy"), containers)


@pytest.fixture(scope="session")
def umoci() -> Client:
    return Client((find("umoci"),))


@pytest.fixture
def docker_image(dockerd: Dockerd, busybox_root: Path) -> Image:
    """Make an image of one layer with docker import."""
    return images.import_image(dockerd.docker, busybox_root, "imported:1")


@pytest.fixture
def docker_built_image(dockerd: Dockerd, busybox_root: Path, tmp_path: Path) -> Image:
    """Make an image of three layers with docker build."""
    return images.build_image(dockerd.docker, busybox_root, tmp_path / "docker-build", "built:1")


@pytest.fixture
def podman_image(podman: Podman, busybox_root: Path) -> Image:
    """Make an image of one layer with podman import."""
    return images.import_image(podman.podman, busybox_root, "localhost/imported:1")


@pytest.fixture
def podman_built_image(podman: Podman, busybox_root: Path, tmp_path: Path) -> Image:
    """Make an image of three layers with podman build."""
    context = tmp_path / "podman-build"
    return images.build_image(podman.podman, busybox_root, context, "localhost/built:1")


@pytest.fixture
def buildah_image(podman: Podman, buildah: Client, busybox_root: Path) -> Image:
    """Make an image of one layer with buildah from scratch."""
    return images.commit_image(buildah, podman.podman, busybox_root, "localhost/committed:1")


@pytest.fixture
def umoci_image(umoci: Client, busybox_root: Path, tmp_path: Path) -> Image:
    """Make an image of two layers in an OCI layout with umoci; its name is PATH:TAG."""
    return images.insert_image(umoci, busybox_root, tmp_path / "umoci", "1")


@pytest.fixture(scope="session", params=MAKERS)
def saved(
    request: pytest.FixtureRequest, busybox_root: Path, tmp_path_factory: pytest.TempPathFactory
) -> Saved:
    """Provide the image of each maker in turn, removed from the maker's own storage."""
    make, *tools = {**MAKERS, **SHAPES}[request.param]
    found = [request.getfixturevalue(tool) for tool in tools]
    return make(busybox_root, tmp_path_factory.mktemp("saved"), *found)

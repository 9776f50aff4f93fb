"""podman with a mount as its additional layer store."""

import base64
import subprocess
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests import archives
from tests.archives import ImageParts
from tests.clients.client import Client, directory, find, require_root
from tests.clients.containers import Podman, add_layer_store, environment
from tests.clients.registries import mount_registry
from tests.filetree import layers
from tests.mounts import Mounted
from tests.stores.registry.proxy import BLOB, Proxy, proxy
from tests.stores.registry.server import lacking, load_into, registry

CHANGES = layers.layer(
    *map(layers.directory, ("dev", "proc", "sys")),
    layers.file("etc/.wh.passwd"),
    layers.directory("tmp", 0o1777),
    layers.file("tmp/.wh..wh..opq"),
    layers.file("etc/motd", "hello from a layer\n"),
)


@pytest.fixture
def image(busybox_root: Path) -> ImageParts:
    tar = subprocess.run(["tar", "-C", busybox_root, "-c", "."], capture_output=True, check=True)
    return ImageParts((tar.stdout, CHANGES))


@pytest.fixture
def before(image: ImageParts, tmp_path: Path) -> Iterator[Proxy]:
    """Return a proxy before a registry that has the image app:1."""
    if reason := lacking():
        pytest.skip(reason)
    (tmp_path / "registry").mkdir()
    with registry(tmp_path / "registry") as host:
        load_into(f"registry://{host}?cache={tmp_path}/pushed", image, gzipped=True)
        with proxy(host) as found:
            yield found


@pytest.fixture
def stored(before: Proxy, image: ImageParts, mounted: Mounted) -> Mounted:
    """Return a mount that has the image by the name that podman pulls."""
    mounted.load(archives.oci_archive((image, f"{before.host}/app:1"), gzipped=True))
    return mounted


@pytest.fixture
def pulling(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[Mounted], Podman]]:
    """Return a function that gives podman a mount as its additional layer store."""
    require_root("podman")
    podman = find("podman")
    with directory(tmp_path_factory.mktemp("layers") / "s") as root:
        around = environment(root)

        def pulling(mounted: Mounted) -> Podman:
            add_layer_store(root, mounted / "additional-layers")
            client = Client((podman,), around)
            if (done := client.run("info")).returncode:
                pytest.skip(f"podman has no overlay here: {done.stderr.decode()[-200:]}")
            return Podman(client)

        yield pulling


def digests_of(image: ImageParts) -> list[str]:
    return [archives.digest(archives.compressed(data)) for data in image.layers]


def layers_asked(before: Proxy, image: ImageParts) -> list[str]:
    return [one for one in digests_of(image) if before.matching(f"{BLOB}:{one[7:]}")]


def looks_up_every_layer(podman: Client) -> bool:
    """Return whether podman is old enough to look up layers without a table of contents."""
    version = podman("version", "--format", "{{.Client.Version}}").split(".")
    return (int(version[0]), int(version[1])) < (5, 1)


def test_an_image_is_pulled_and_run_without_its_layers(
    stored: Mounted,
    before: Proxy,
    image: ImageParts,
    pulling: Callable[[Mounted], Podman],
    tmp_path: Path,
) -> None:
    podman = pulling(stored).podman
    before.seen.clear()
    name = f"{before.host}/app:1"
    pulled = podman.run("pull", "--tls-verify=false", name)
    assert pulled.returncode == 0, pulled.stderr
    assert b"Additional Layer Store" not in pulled.stderr
    pulled_as_ever = [] if looks_up_every_layer(podman) else digests_of(image)
    assert layers_asked(before, image) == pulled_as_ever
    script = "cat /etc/motd; echo new > /etc/motd; cat /etc/motd; ls -A /etc /tmp"
    found = podman("run", "--rm", "--network", "none", name, "sh", "-c", script)
    assert found.split("\n")[:2] == ["hello from a layer", "new"]
    assert "passwd" not in found
    podman("save", "-o", tmp_path / "saved.tar", name)
    with tarfile.open(tmp_path / "saved.tar") as saved:
        for data in image.layers:
            member = saved.extractfile(f"{archives.digest(data)[7:]}.tar")
            assert member is not None
            assert member.read() == data
    removed = podman.run("rmi", name)
    assert removed.returncode == 0, removed.stderr
    assert b"Additional Layer Store" not in removed.stderr


def test_a_mount_of_the_registry(
    before: Proxy,
    mount: Callable[..., Mounted],
    pulling: Callable[[Mounted], Podman],
    tmp_path: Path,
) -> None:
    shown = mount_registry(mount, f"registry://{before.host}?cache={tmp_path}/cache")
    podman = pulling(shown).podman
    name = f"{before.host}/app:1"
    podman("pull", "--tls-verify=false", name)
    assert podman("run", "--rm", "--network", "none", name, "cat", "/etc/motd") == (
        "hello from a layer"
    )


def test_an_image_that_the_store_does_not_have_is_pulled_as_ever(
    before: Proxy, image: ImageParts, mounted: Mounted, pulling: Callable[[Mounted], Podman]
) -> None:
    podman = pulling(mounted).podman
    before.seen.clear()
    podman("pull", "--tls-verify=false", f"{before.host}/app:1")
    assert len(layers_asked(before, image)) == len(image.layers)


def test_the_tree_as_podman_asks_for_it(stored: Mounted, before: Proxy, image: ImageParts) -> None:
    reference = base64.b64encode(f"{before.host}/app:1".encode()).decode()
    digest = archives.digest(archives.compressed(image.layers[1]))
    at = stored / "additional-layers" / reference / digest
    assert (at / "diff/etc/motd").samefile(stored / "layers" / before.host / "app:1/01/etc/motd")
    with pytest.raises(FileNotFoundError):
        (at / "use").touch()
    with pytest.raises(FileNotFoundError):
        at.rmdir()

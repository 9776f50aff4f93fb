"""The URL of a containerd, and the names of its images."""

import socket
import sys
from pathlib import Path

import pytest

from engine import stores
from engine.errors import StoreError
from engine.image import Image
from engine.spec.digest import of_bytes
from engine.spec.oci import MANIFEST, Descriptor
from engine.stores.containerd.location import Location, find_socket, parse_location
from engine.stores.containerd.names import Names, Reading, untagged_name
from engine.stores.containerd.owner import is_abandoned, new_id
from engine.stores.open import open_store

ONE = Descriptor(MANIFEST, of_bytes(b"one"), 3)
FULL = "docker.io/library/app:1"


@pytest.mark.parametrize(
    ("url", "first", "namespace"),
    [
        ("containerd://", "/run/containerd/containerd.sock", ""),
        ("containerd:///", "/run/containerd/containerd.sock", ""),
        ("containerd://?namespace=k8s.io", "/run/containerd/containerd.sock", "k8s.io"),
        ("containerd:///a/b.sock", "/a/b.sock", ""),
        ("containerd:///a%20b?namespace=x", "/a b", "x"),
        ("docker://", "/run/docker/containerd/containerd.sock", "moby"),
        ("docker:///a/b.sock", "/a/b.sock", "moby"),
    ],
)
def test_urls(url: str, first: str, namespace: str) -> None:
    location = parse_location(url, {})
    assert str(location.sockets[0]) == first
    assert location.namespace == namespace
    assert location.is_docker == url.startswith("docker")


def test_the_environment_names_socket_and_namespace_as_for_ctr() -> None:
    environment = {"CONTAINERD_ADDRESS": "unix:///x", "CONTAINERD_NAMESPACE": "n"}
    location = parse_location("containerd://", environment)
    assert (location.sockets, location.namespace) == ((Path("/x"),), "n")
    other = parse_location("containerd:///y?namespace=m", environment)
    assert (other.sockets, other.namespace) == ((Path("/y"),), "m")
    rootless = parse_location("docker://", {"XDG_RUNTIME_DIR": "/run/user/1"})
    assert str(rootless.sockets[-1]) == "/run/user/1/docker/containerd/containerd.sock"


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("containerd://host/x", "three slashes, found host/x"),
        ("containerd://?tls=1", "expected the option namespace, found tls"),
    ],
)
def test_urls_that_say_something_else(url: str, reason: str) -> None:
    with pytest.raises(StoreError, match=reason):
        parse_location(url, {})


def test_the_first_socket_that_is_there_is_taken(tmp_path: Path) -> None:
    absent, file, real = (tmp_path / name for name in ("absent", "file", "real"))
    file.touch()
    with pytest.raises(StoreError, match=f"found none at {absent}, {file}"):
        find_socket(Location("containerd://", (absent, file)))
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(real))
        assert find_socket(Location("containerd://", (absent, file, real))) == real


def test_what_is_lacking_is_one_clear_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stores, "containerd", stores.containerd)
    for module in [name for name in sys.modules if name.startswith("engine.stores.containerd")]:
        monkeypatch.delitem(sys.modules, module)
    monkeypatch.setitem(sys.modules, "grpc", None)
    with pytest.raises(StoreError, match=r"module grpc.* install imgfs\[containerd\]"):
        open_store("containerd://")


# Names


def names(*stored: str) -> Names:
    return Names(Reading(), [Image(name, ONE) for name in stored])


@pytest.mark.parametrize(
    ("stored", "listed"),
    [
        ([FULL], [FULL]),
        (["app:1"], [FULL]),
        (["app:1", FULL], [FULL]),
        (["app", "No name", "docker.io/library/app", f"app@{of_bytes(b'x')}"], []),
        ([f"docker.io/library/app@{ONE.digest}"], [f"docker.io/library/app@{ONE.digest}"]),
        ([f"docker.io/library/app@{ONE.digest}", FULL], [FULL]),
        ([of_bytes(b"config")], [ONE.digest]),
        ([of_bytes(b"config"), FULL], [FULL]),
        ([untagged_name(ONE.digest, "moby")], [ONE.digest]),
        ([untagged_name(ONE.digest, "x"), of_bytes(b"config")], [ONE.digest]),
    ],
)
def test_names_of_containerd_as_images(stored: list[str], listed: list[str]) -> None:
    found = names(*stored)
    assert [image.name for image in found.listed] == listed
    assert [image.name for image in found.of(ONE.digest)] == listed
    for name in listed:
        assert found.find(name) is not None
        assert set(found.stored(name)) <= set(stored)


def test_only_what_a_process_that_ended_has_made_is_abandoned() -> None:
    own = new_id()
    prefix, boot, space, pid, started, rest = own.split("-")
    assert not is_abandoned(own)
    assert is_abandoned(f"{prefix}-00000000-{space}-{pid}-{started}-{rest}")
    assert is_abandoned(f"{prefix}-{boot}-{space}-{pid}-1-{rest}")
    assert is_abandoned(f"{prefix}-{boot}-{space}-4194999-{started}-{rest}")
    assert not is_abandoned(f"{prefix}-{boot}-1-4194999-{started}-{rest}")
    assert not is_abandoned("layer-sha256:x")
    assert not is_abandoned(f"{prefix}-{boot}-{space}-x-y")

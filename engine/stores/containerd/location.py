"""The URL of a containerd: its socket, and the namespace of its images."""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Final
from urllib.parse import parse_qsl, unquote

import msgspec

from engine.errors import StoreError

DOCKER: Final = "moby"
"""The namespace in which docker keeps its images."""
KUBERNETES: Final = "k8s.io"
"""The namespace in which Kubernetes keeps its images."""
_CONTAINERD: Final = (
    "/run/containerd/containerd.sock",
    "/run/k3s/containerd/containerd.sock",
    "/run/k0s/containerd.sock",
    "/var/snap/microk8s/common/run/containerd.sock",
    "/run/docker/containerd/containerd.sock",
)
_DOCKER: Final = ("/run/docker/containerd/containerd.sock", "/run/containerd/containerd.sock")
_ROOTLESS: Final = "docker/containerd/containerd.sock"


class Location(msgspec.Struct, frozen=True):
    """A containerd, and the images in it.

    `url` is as it was given; `sockets` are tried in order; `namespace` is "" to take the first one
    that has images; `is_docker` is whether docker's images are meant.
    """

    url: str
    sockets: tuple[Path, ...]
    namespace: str = ""
    is_docker: bool = False


def parse_location(url: str, environment: Mapping[str, str] = os.environ) -> Location:
    """Parse containerd://[/SOCKET][?namespace=NAME], or docker:// likewise.

    Without a socket, $CONTAINERD_ADDRESS and the sockets of containerd, k3s and docker are tried;
    without a namespace, $CONTAINERD_NAMESPACE. docker:// means docker's own socket and namespace.
    Raise StoreError.
    """
    kind, _, rest = url.partition("://")
    path, _, query = rest.partition("?")
    path = unquote(path)
    options = dict(parse_qsl(query, keep_blank_values=True))
    if unknown := set(options) - {"namespace"}:
        raise StoreError(url, f"expected the option namespace, found {min(unknown)}")
    if path.strip("/") and not path.startswith("/"):
        raise StoreError(url, f"expected {kind}:///SOCKET with three slashes, found {path}")
    is_docker = kind == "docker"
    namespace = options.get("namespace") or (
        DOCKER if is_docker else environment.get("CONTAINERD_NAMESPACE", "")
    )
    if path.strip("/"):
        return Location(url, (Path(path),), namespace, is_docker)
    found = list(_DOCKER if is_docker else _CONTAINERD)
    if not is_docker and (address := environment.get("CONTAINERD_ADDRESS")):
        found = [address.removeprefix("unix://")]
    elif runtime := environment.get("XDG_RUNTIME_DIR"):
        found.append(f"{runtime}/{_ROOTLESS}")
    return Location(url, tuple(map(Path, found)), namespace, is_docker)


def find_socket(location: Location) -> Path:
    """Return the first socket that is there; raise StoreError if there is none."""
    for path in location.sockets:
        with suppress(OSError):  # a directory that may not be entered
            if path.is_socket():
                return path
    tried = ", ".join(map(str, location.sockets))
    raise StoreError(
        location.url,
        f"expected the socket of a running containerd, found none at {tried};"
        " start it, or name its socket: containerd:///PATH",
    )

"""The daemons for docker and ctr, each restricted to one directory."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

from tests.clients.client import Client, daemon, find

CONTAINERD = """\
version = 2
root = "{root}/root"
state = "{root}/state"
disabled_plugins = ["io.containerd.grpc.v1.cri"]
[grpc]
address = "{root}/sock"
[ttrpc]
address = "{root}/sock.ttrpc"
[plugins."io.containerd.internal.v1.opt"]
path = "{root}/opt"
"""


@dataclass(frozen=True, slots=True)
class Dockerd:
    """A docker daemon without a network, which builds with its classic builder."""

    docker: Client

    def run(self, image: str) -> str:
        """Return what a container of the image prints."""
        return self.docker("run", "--rm", "--network", "none", image)

    def clear(self) -> None:
        """Remove every container that has ended, and every image."""
        self.docker("container", "prune", "--force")
        self.docker("image", "prune", "--all", "--force")


@dataclass(frozen=True, slots=True)
class Containerd:
    """A containerd, used through ctr in one namespace."""

    ctr: Client
    url: str
    """The store over it, in the namespace of `ctr`."""
    log: Path

    def run(self, image: str) -> str:
        """Return what a container of the image prints.

        The shim writes the output to a file, because ctr may stop reading too early. The
        container's name is new, since its cgroup has that name for every containerd here.
        """
        self.log.unlink(missing_ok=True)
        self.ctr("run", "--rm", "--log-uri", f"file://{self.log}", image, uuid4().hex)
        return self.log.read_text().strip()

    def clear(self) -> None:
        """Remove every image, then the content that is unreferenced."""
        for name in self.ctr("images", "ls", "-q").splitlines():
            self.ctr("images", "rm", "--sync", name)


@contextmanager
def running_dockerd(root: Path) -> Iterator[Dockerd]:
    """Run a docker daemon with its own containerd and the best storage driver here.

    Debian's client is preferred, because it belongs to Debian's daemon.
    """
    socket = root / "sock"
    settings = root / "daemon.json"
    settings.write_text("{}")
    client = shutil.which("/usr/bin/docker") or find("docker")
    docker = Client(
        (client, "-H", f"unix://{socket}"),
        {
            "DOCKER_CONFIG": str(root / "config"),
            "DOCKER_HOST": "",
            "DOCKER_CONTEXT": "",
            "DOCKER_BUILDKIT": "0",
        },
    )
    command = (
        find("dockerd"),
        *("--config-file", str(settings)),
        *("--data-root", str(root / "data"), "--exec-root", str(root / "exec")),
        *("--pidfile", str(root / "pid"), "--host", f"unix://{socket}"),
        *("--bridge=none", "--iptables=false", "--ip6tables=false"),
    )

    def ready() -> bool:
        return socket.exists() and docker.run("version").returncode == 0

    with daemon(*command, log=root / "log", ready=ready):
        yield Dockerd(docker)


@contextmanager
def running_containerd(root: Path) -> Iterator[Containerd]:
    """Run a containerd without the plugins for Kubernetes."""
    socket = root / "sock"
    settings = root / "config.toml"
    settings.write_text(CONTAINERD.format(root=root))
    ctr = Client((find("ctr"), "--address", str(socket), "--namespace", "test"))

    def ready() -> bool:
        return socket.exists() and ctr.run("version").returncode == 0

    with daemon(find("containerd"), "--config", str(settings), log=root / "log", ready=ready):
        yield Containerd(ctr, f"containerd://{socket}?namespace=test", root / "container.log")

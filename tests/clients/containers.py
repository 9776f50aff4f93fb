"""podman, buildah and skopeo with one storage of their own."""

import json
import os
from dataclasses import dataclass
from pathlib import Path

from tests.clients.client import Client

# The usual resource limits are above those that this process may grant. There is no network, which
# needs more packages. runc and conmon are searched as podman does.
CONTAINERS = """\
[containers]
default_ulimits = ["nofile=1024:1024", "nproc=1024:1024"]
netns = "none"
[engine]
cgroup_manager = "cgroupfs"
events_logger = "none"
tmp_dir = "{root}/tmp"
volume_path = "{root}/volumes"
[network]
network_config_dir = "{root}/networks"
"""

STORAGE = """\
[storage]
driver = "{driver}"
graphroot = "{root}/graph"
runroot = "{root}/run"
"""

DRIVERS = ("overlay", "vfs")


@dataclass(frozen=True, slots=True)
class Podman:
    """podman with its own storage."""

    podman: Client

    def run(self, image: str) -> str:
        """Return what a container of the image prints."""
        return self.podman("run", "--rm", "--network", "none", image)

    def clear(self) -> None:
        """Remove every container and every image."""
        self.podman("rm", "--all", "--force")
        self.podman("rmi", "--all", "--force")


def environment(root: Path) -> dict[str, str]:
    """Write the settings that restrict these tools to `root`; return the environment that names
    them.
    """
    policy = root / "home" / ".config" / "containers" / "policy.json"
    policy.parent.mkdir(parents=True)
    policy.write_text(json.dumps({"default": [{"type": "insecureAcceptAnything"}]}))
    for name in ("tmp", "runtime"):
        (root / name).mkdir()
    (root / "containers.conf").write_text(CONTAINERS.format(root=root))
    (root / "registries.conf").write_text("")
    use_driver(root, DRIVERS[0])
    return {
        "HOME": str(root / "home"),
        "TMPDIR": str(root / "tmp"),
        "XDG_CONFIG_HOME": str(root / "home" / ".config"),
        "XDG_RUNTIME_DIR": str(root / "runtime"),
        "CONTAINERS_CONF": str(root / "containers.conf"),
        "CONTAINERS_STORAGE_CONF": str(root / "storage.conf"),
        "CONTAINERS_REGISTRIES_CONF": str(root / "registries.conf"),
        "PATH": f"{os.environ.get('PATH', os.defpath)}:/usr/sbin:/sbin",
    }


def use_driver(root: Path, driver: str) -> None:
    """Set the storage driver of the storage below `root`."""
    (root / "storage.conf").write_text(STORAGE.format(root=root, driver=driver))


def add_layer_store(root: Path, path: Path) -> None:
    """Make podman look for layers at a path; only the overlay driver does."""
    use_driver(root, DRIVERS[0])
    with (root / "storage.conf").open("a") as file:
        file.write(f'[storage.options]\nadditionallayerstores = ["{path}:ref"]\n')

"""Real images, made by real clients from a small root file system, without a network."""

import json
import os
import shutil
from dataclasses import dataclass
from pathlib import Path

from tests.clients.client import Client, find

_EPOCH = 1_700_000_000

DOCKERFILE = """\
FROM scratch
COPY root /
COPY greeting /etc/greeting
RUN ln -s greeting /etc/salute && echo more >> /etc/greeting
ENV LANG=C
LABEL org.example.purpose="a test of <layers> & labels"
CMD ["cat", "/etc/salute"]
"""


@dataclass(frozen=True, slots=True)
class Image:
    """An image in the storage of a tool."""

    name: str
    """The name with its tag, as the tool prints it."""
    id: str
    """sha256:<hex> of the config."""
    says: str
    """The output of a container of the image."""


def make_root(root: Path) -> Path:
    """Create a root file system with one static busybox, the same in every run; `root` must not
    exist.
    """
    busybox = Path(find("busybox")).read_bytes()
    for folder in ("bin", "etc", "tmp"):
        (root / folder).mkdir(parents=True)
    (root / "bin" / "busybox").write_bytes(busybox)
    (root / "bin" / "busybox").chmod(0o755)
    for applet in ("sh", "cat", "ls", "echo", "ln", "true"):
        (root / "bin" / applet).symlink_to("busybox")
    (root / "etc" / "passwd").write_text("root:x:0:0:root:/:/bin/sh\n")
    (root / "tmp").chmod(0o1777)
    for path in [*root.rglob("*"), root]:
        os.utime(path, (_EPOCH, _EPOCH), follow_symlinks=False)
    return root


def import_image(client: Client, root: Path, name: str) -> Image:
    """Make an image of one layer with `docker import` or `podman import`, from a tar on standard
    input.
    """
    tar = Client((find("tar"),)).output("-C", root, "--numeric-owner", "-c", ".")
    client("import", "--change", 'CMD ["echo", "imported"]', "-", name, stdin=tar)
    return Image(name, image_id(client, name), "imported")


def build_image(client: Client, root: Path, context: Path, name: str) -> Image:
    """Make an image of three layers with `docker build` or `podman build` in a new directory."""
    context.mkdir()
    (context / "Dockerfile").write_text(DOCKERFILE)
    (context / "greeting").write_text("built\n")
    shutil.copytree(root, context / "root", symlinks=True)
    client("build", "--network", "none", "--tag", name, context)
    return Image(name, image_id(client, name), "built\nmore")


def commit_image(buildah: Client, podman: Client, root: Path, name: str) -> Image:
    """Make an image of one layer with `buildah from scratch` in podman's storage."""
    container = buildah("from", "scratch")
    buildah("copy", container, root, "/")
    buildah("config", "--cmd", "echo committed", container)
    buildah("commit", "--rm", container, name)
    return Image(name, image_id(podman, name), "committed")


def insert_image(umoci: Client, root: Path, layout: Path, tag: str) -> Image:
    """Make an image of two layers in a new OCI layout with umoci."""
    name = f"{layout}:{tag}"
    rootless = ["--rootless"] if os.geteuid() else []
    umoci("init", "--layout", layout)
    umoci("new", "--image", name)
    umoci("insert", *rootless, "--image", name, root, "/")
    umoci("insert", *rootless, "--image", name, root / "etc", "/srv")
    umoci("config", "--image", name, "--config.cmd", "echo", "--config.cmd", "inserted")
    return Image(name, _config_digest(layout, tag), "inserted")


def image_id(client: Client, name: str) -> str:
    """Return the ID that docker or podman gives an image, as sha256:<hex>."""
    found = client("image", "inspect", "--format", "{{.Id}}", name)
    return f"sha256:{found.removeprefix('sha256:')}"


def _config_digest(layout: Path, tag: str) -> str:
    index = json.loads((layout / "index.json").read_bytes())
    (manifest,) = [
        descriptor["digest"]
        for descriptor in index["manifests"]
        if descriptor["annotations"]["org.opencontainers.image.ref.name"] == tag
    ]
    blob = layout / "blobs" / manifest.replace(":", "/")
    return str(json.loads(blob.read_bytes())["config"]["digest"])

"""Layouts on a disk for clients to copy: one image and two, whose layers are partly the same."""

import json
import os
import shutil
from dataclasses import dataclass
from pathlib import Path

from tests.clients.client import Client
from tests.directories import REF_NAME

SHARED_SIZE = 2_000_000


@dataclass(frozen=True, slots=True)
class Layout:
    """A directory with an OCI layout, whose images have only tags."""

    path: Path

    def image(self, tag: str) -> str:
        """The image as skopeo and umoci name it."""
        return f"{self.path}:{tag}"

    @property
    def digests(self) -> dict[str, str]:
        """The digests of the manifests, by their tags."""
        index = json.loads((self.path / "index.json").read_bytes())
        return {one["annotations"][REF_NAME]: one["digest"] for one in index["manifests"]}

    def config(self, tag: str) -> str:
        """The ID of the image."""
        manifest = self.path / "blobs" / self.digests[tag].replace(":", "/")
        return str(json.loads(manifest.read_bytes())["config"]["digest"])

    def largest(self, tag: str) -> str:
        """The digest of the layer that the images share."""
        manifest = self.path / "blobs" / self.digests[tag].replace(":", "/")
        layers = json.loads(manifest.read_bytes())["layers"]
        return str(max(layers, key=lambda layer: int(layer["size"]))["digest"])


def make(umoci: Client, folder: Path) -> Layout:
    """By umoci: `1` has a large layer and a small one, `2` one more."""
    layout = Layout(folder / "layout")
    umoci("init", "--layout", layout.path)
    umoci("new", "--image", layout.image("1"))
    for number, size in enumerate((SHARED_SIZE, 100, 100)):
        root = folder / f"root{number}"
        root.mkdir()
        (root / "file").write_bytes(os.urandom(size))
        if number == 2:
            umoci("tag", "--image", layout.image("1"), "2")
        insert(umoci, layout.image("2" if number == 2 else "1"), root)
    umoci("gc", "--layout", layout.path)
    return layout


def insert(umoci: Client, image: str, root: Path) -> None:
    rootless = ["--rootless"] if os.geteuid() else []
    umoci("insert", *rootless, "--image", image, root, f"/{root.name}")


def one_of(layout: Layout, tag: str, skopeo: Client, folder: Path) -> Layout:
    """A layout with one of the images only, by skopeo."""
    alone = Layout(folder / f"only{tag}")
    skopeo("copy", f"oci:{layout.image(tag)}", f"oci:{alone.image(tag)}")
    return alone


def copied(layout: Layout, path: Path) -> Layout:
    shutil.copytree(layout.path, path)
    return Layout(path)

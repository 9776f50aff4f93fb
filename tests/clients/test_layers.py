"""Layers of other tools are merged to the tree that umoci unpacks."""

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from engine.filetree.directory import scan
from engine.filetree.merged import MergedImage
from engine.layouts import combined
from tests import archives
from tests.archives import ImageParts
from tests.clients.client import Client, shell
from tests.clients.saved import Saved
from tests.local_engine import LocalEngine
from tests.trees import make_odd, picture

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="devices and owners need root")


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[LocalEngine]:
    with LocalEngine(tmp_path / "store") as opened:
        yield opened


def load(engine: LocalEngine, archive: bytes) -> None:
    with engine.begin_import() as session:
        session.feed(archive)
        session.finish()


def has_the_tree_of_umoci(engine: LocalEngine, umoci: Client, folder: Path) -> None:
    """Return whether the only image of a store has the tree that umoci unpacks."""
    (image,) = engine.images.all()
    engine.tag(image.name, "one:1")
    (folder / "layout").mkdir()
    with (folder / "one.tar").open("wb") as tar:
        engine.write(engine.find("one:1"), combined.Options(), tar.write)
    shell(f"tar -C {folder}/layout -xf {folder}/one.tar")
    umoci("unpack", "--image", f"{folder}/layout:1", folder / "bundle")
    merged = MergedImage(engine.layers, engine.details("one:1").manifest.manifest)
    assert picture(merged.tree) == picture(scan(folder / "bundle" / "rootfs"))


def test_layers_of_real_tools_are_merged_as_by_umoci(
    saved: Saved, engine: LocalEngine, umoci: Client, tmp_path: Path
) -> None:
    load(engine, saved.archive.read_bytes())
    has_the_tree_of_umoci(engine, umoci, tmp_path)


FORMATS = {
    "gnu": ("tar", "--format=gnu"),
    "posix": ("tar", "--format=posix", "--xattrs"),
    "oldgnu": ("tar", "--format=oldgnu"),
    "sparse": ("tar", "--format=posix", "--sparse"),
    "libarchive": ("bsdtar", "--format=pax"),
    "libarchive's ustar": ("bsdtar", "--format=gnutar"),
}


@pytest.mark.parametrize("name", FORMATS)
def test_layers_of_any_tar_are_merged_as_by_umoci(
    name: str, engine: LocalEngine, umoci: Client, tmp_path: Path
) -> None:
    tool, *options = FORMATS[name]
    if shutil.which(tool) is None:
        pytest.skip(f"{tool} is not installed")
    root = tmp_path / "root"
    root.mkdir()
    make_odd(root)
    (root / "s").unlink()
    command = [tool, *options, "--numeric-owner", "-C", str(root), "-cf", "-", "."]
    layer = subprocess.run(command, capture_output=True, check=True).stdout
    load(engine, archives.oci_archive((ImageParts((layer,)), None)))
    has_the_tree_of_umoci(engine, umoci, tmp_path)

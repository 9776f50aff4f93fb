"""What the layers of images hold, in a mount."""

import base64
import json
import os
import stat
from collections.abc import Callable

import pytest

from tests import archives
from tests.archives import ImageParts
from tests.filetree.layers import directory, file, layer
from tests.mounts import Mounted

LAYERS = (
    layer(directory("d"), file("d/a", "1"), file("gone", "2")),
    layer(file(".wh.gone"), directory("d"), file("d/.wh..wh..opq"), file("d/b", "3")),
)
ARCHIVE = archives.oci_archive((ImageParts(LAYERS), "ghcr.io/org/app:1"), gzipped=True)


def test_layers_have_the_form_of_overlayfs(mounted: Mounted) -> None:
    mounted.load(ARCHIVE)
    layers = mounted / "layers/ghcr.io/org/app:1"
    assert mounted.names("layers") == ["ghcr.io"]
    assert sorted(os.listdir(layers)) == ["00", "01"]
    assert (layers / "00/d/a").read_text() == "1"
    assert sorted(os.listdir(layers / "01/d")) == ["b"]
    gone = (layers / "01/gone").stat()
    assert stat.S_ISCHR(gone.st_mode)
    assert gone.st_rdev == 0
    assert os.getxattr(layers / "01/d", "user.overlay.opaque") == b"y"
    assert os.getxattr(layers / "01", "user.oci.created_by") == b"test"
    assert (layers / "01/d/b").samefile(mounted / "rootfs/ghcr.io/org/app:1/d/b")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root sees trusted attributes")
def test_root_lists_what_its_overlays_hide(mounted: Mounted) -> None:
    mounted.load(ARCHIVE)
    opaque = mounted / "layers/ghcr.io/org/app:1/01/d"
    assert os.listxattr(opaque) == ["trusted.overlay.opaque"]
    assert os.getxattr(opaque, "trusted.overlay.opaque") == b"y"


def test_layers_as_the_mount_itself(mount: Callable[..., Mounted]) -> None:
    mounted = mount(options=("-o", "layout=layers,names=safe"))
    mounted.load(ARCHIVE)
    assert mounted.names() == ["ghcr.io", "import"]
    assert mounted.names("ghcr.io/org") == ["app--1"]
    assert mounted.names("ghcr.io/org/app--1/00") == ["d", "gone"]


def test_additional_layers_as_the_mount_itself(mount: Callable[..., Mounted]) -> None:
    mounted = mount(options=("--layout", "additional-layers"))
    mounted.load(ARCHIVE)
    assert mounted.names() == []
    lower, upper = (archives.digest(archives.compressed(data)) for data in LAYERS)
    at = mounted / base64.b64encode(b"ghcr.io/org/app:1").decode()
    assert sorted(os.listdir(at / lower)) == ["blob", "diff", "info"]
    assert json.loads((at / upper / "info").read_bytes())["diff-size"] == len(LAYERS[1])
    assert (at / upper / "blob").read_bytes() == archives.compressed(LAYERS[1])
    assert (at / upper / "diff/d/b").samefile(mounted / "layers/ghcr.io/org/app:1/01/d/b")
    with pytest.raises(FileNotFoundError):
        (at / upper / "use").touch()
    with pytest.raises(FileNotFoundError):
        (at / upper).rmdir()
    assert (at / upper / "diff").is_dir()

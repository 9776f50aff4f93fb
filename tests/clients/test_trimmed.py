"""Tools that want all that an index lists take an image that was saved with a trimmed index."""

import sys
from pathlib import Path

import pytest

from tests import archives
from tests.archives import ImageParts
from tests.clients.client import Client
from tests.clients.daemons import Containerd

HERE, THERE, ABSENT = (
    ImageParts(architecture=name, layers=[archives.layer(name)])
    for name in ("amd64", "arm64", "s390x")
)


@pytest.fixture
def saved(tmp_path: Path) -> dict[str, Path]:
    """Return archives of an image that lacks a platform, by whether its index is trimmed."""
    imgfs = Client((sys.executable, "-m", "imgfs", "--store", str(tmp_path / "store")))
    archive = tmp_path / "multi.tar"
    archive.write_bytes(
        archives.multi_platform("docker.io/library/multi:1", [HERE, THERE], [ABSENT])
    )
    imgfs("load", "-i", archive)
    found = {}
    for name, options in (("whole", ()), ("trimmed", ("--trim-index",))):
        found[name] = tmp_path / f"{name}.tar"
        imgfs("save", *options, "-o", found[name], "multi:1")
    return found


def test_containerd_imports_all_platforms(containerd: Containerd, saved: dict[str, Path]) -> None:
    with pytest.raises(AssertionError, match="not found"):
        containerd.ctr("images", "import", "--all-platforms", saved["whole"])
    containerd.clear()
    containerd.ctr("images", "import", "--all-platforms", "--no-unpack", saved["trimmed"])
    listed = containerd.ctr("images", "ls")
    assert "linux/amd64,linux/arm64" in listed
    assert "s390x" not in listed


def test_skopeo_copies_all(skopeo: Client, saved: dict[str, Path], tmp_path: Path) -> None:
    with pytest.raises(AssertionError):
        skopeo("copy", "--all", f"oci-archive:{saved['whole']}", f"dir:{tmp_path}/whole")
    skopeo("copy", "--all", f"oci-archive:{saved['trimmed']}", f"dir:{tmp_path}/all")
    assert len(list((tmp_path / "all").glob("*.manifest.json"))) == 2

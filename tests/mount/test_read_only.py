"""A mount of a store that cannot be changed."""

import errno
import os
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests import archives
from tests.archives import ImageParts
from tests.mounts import Mounted, write

APP = ImageParts(layers=[archives.layer("a")])
ARCHIVE = archives.oci_archive((APP, "docker.io/library/app:1"))


@pytest.fixture
def read_only(tmp_path: Path, mount: Callable[..., Mounted]) -> Mounted:
    archive = tmp_path / "app.tar"
    archive.write_bytes(ARCHIVE)
    launcher = sys.executable, "-m", "tests.mount.read_only", str(archive)
    return mount(launcher=launcher)


def test_a_read_only_store_is_mounted(read_only: Mounted) -> None:
    assert read_only.names() == ["app:1", "import"]
    config = read_only / f"app:1/blobs/{APP.id.replace(':', '/')}"
    assert config.read_bytes() == APP.config
    assert read_only.status("images") == 1


@pytest.mark.parametrize(
    "change",
    [
        lambda mount: write(mount.drop / "x.tar", ARCHIVE),
        lambda mount: os.rename(mount / "app:1", mount / "app:2"),
        lambda mount: os.rmdir(mount / "app:1"),
        lambda mount: os.unlink(mount / "app:1/index.json"),
        lambda mount: os.mkdir(mount / "quay.io"),
        lambda mount: os.symlink("app:1", mount / "app:2"),
    ],
    ids=["import", "rename", "rmdir", "unlink", "mkdir", "symlink"],
)
def test_a_change_says_that_the_store_is_read_only(
    read_only: Mounted, change: Callable[[Mounted], object]
) -> None:
    with pytest.raises(OSError, match=os.strerror(errno.EROFS)) as caught:
        change(read_only)
    assert caught.value.errno == errno.EROFS
    assert read_only.names() == ["app:1", "import"]
    assert not read_only.names("import")

"""Images removed as people and programs do it: from the leaves to the directory itself."""

import os
import shutil
from pathlib import Path

import pytest

from tests import archives
from tests.archives import ImageParts
from tests.mounts import Mounted, run

APP, OTHER = ImageParts(), ImageParts(layers=[archives.layer("other")])


@pytest.fixture
def app(mounted: Mounted) -> Mounted:
    mounted.load(archives.docker_archive((APP, ["app:1", "ghcr.io/org/team/app:1"])))
    return mounted


@pytest.mark.parametrize(
    "command",
    [
        "rm -r {d}",
        "rm -rf {d}",
        "find {d} -delete",
        "mv {d} {out}",
        "python3 -c 'import shutil, sys; shutil.rmtree(sys.argv[1])' {d}",
        "rm {d}/*.json {d}/oci-layout {d}/blobs/*/* && rmdir {d}/blobs/sha256 {d}/blobs {d}",
    ],
)
def test_an_image_is_removed(app: Mounted, tmp_path: Path, command: str) -> None:
    run("bash", "-c", command.format(d=app / "app:1", out=tmp_path / "out"))
    assert app.names() == ["ghcr.io", "import"]
    run("bash", "-c", command.format(d=app / "ghcr.io/org/team/app:1", out=tmp_path / "out2"))
    (untagged,) = set(app.names()) - {"import"}
    run("bash", "-c", command.format(d=app / untagged, out=tmp_path / "out3"))
    assert app.names() == ["import"]


@pytest.mark.parametrize("command", ["rm -r {d}", "find {d} -delete"])
def test_a_namespace_is_removed_with_all_that_is_in_it(app: Mounted, command: str) -> None:
    os.symlink(app / "app:1", app / "ghcr.io/b:2")
    run("bash", "-c", command.format(d=app / "ghcr.io"))
    assert app.names() == ["app:1", "import"]
    assert not (app / "ghcr.io").exists()


def test_what_was_unlinked_is_gone_and_the_rest_is_there(app: Mounted) -> None:
    image, blob = app / "app:1", f"blobs/sha256/{APP.id[7:]}"
    (image / blob).unlink()
    (image / "index.json").unlink()
    assert os.listdir(image) == ["blobs", "manifest.json", "oci-layout"]
    assert not (image / "index.json").exists()
    assert APP.id[7:] not in os.listdir(image / "blobs/sha256")
    with pytest.raises(FileNotFoundError):
        (image / blob).unlink()
    with pytest.raises(OSError, match="not empty"):
        (image / "blobs").rmdir()
    assert (image / "manifest.json").read_bytes()
    for whole in ("app", "ghcr.io/org/team/app:1", os.getxattr(image, "user.oci.digest").decode()):
        assert (app / whole / blob).read_bytes(), "elsewhere the image is whole"
        assert (app / whole / "index.json").read_bytes()


def test_a_name_given_again_shows_the_image_whole(app: Mounted) -> None:
    image = app / "app:1"
    held = os.open(image, os.O_PATH | os.O_DIRECTORY)
    try:
        shutil.rmtree(image)
        os.symlink(app / "ghcr.io/org/team/app:1", image)
        assert len(os.listdir(image)) == 4
        assert (image / "blobs/sha256" / APP.id[7:]).read_bytes()
    finally:
        os.close(held)


def test_an_image_that_comes_meanwhile_is_whole(app: Mounted) -> None:
    """A removal is of the image that was there when it began."""
    held = os.open(app / "app:1", os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.unlink("index.json", dir_fd=held)
        app.load(archives.docker_archive((OTHER, ["app:1"])))
        assert len(os.listdir(app / "app:1")) == 4
        with pytest.raises(PermissionError):
            os.unlink("manifest.json", dir_fd=held)
    finally:
        os.close(held)
    assert (app / "app:1/blobs/sha256" / OTHER.id[7:]).is_file()


def test_an_open_file_stays_readable(app: Mounted) -> None:
    with open(app / "app:1/manifest.json", "rb") as file:
        shutil.rmtree(app / "app:1")
        assert file.read().startswith(b"[")


def test_rmdir_of_what_is_half_removed_removes_the_rest(app: Mounted) -> None:
    (app / "app:1/index.json").unlink()
    os.rmdir(app / "app:1")
    assert app.names() == ["ghcr.io", "import"]


def test_an_archive_can_be_read_while_an_image_of_it_is_removed(app: Mounted) -> None:
    """One blob is one inode in both."""
    blob = f"blobs/sha256/{APP.id[7:]}"
    other = app / "ghcr.io/org/team/app:1" / blob
    before = other.read_bytes()
    shutil.rmtree(app / "app:1")
    assert other.read_bytes() == before
    assert other.stat().st_nlink == 1

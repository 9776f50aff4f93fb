"""Images removed as people and programs remove directories: the files first, then the directory."""

import os
import shutil
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest

from imgfs.vfs.removals import PATIENCE
from tests import archives
from tests.archives import ImageParts
from tests.mount.clock import Clock
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
def test_every_way_to_remove_a_directory_removes_an_image(
    app: Mounted, tmp_path: Path, command: str
) -> None:
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


def test_only_unlinked_files_are_hidden(app: Mounted) -> None:
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


def test_an_image_under_a_reused_name_shows_all_files(app: Mounted) -> None:
    image = app / "app:1"
    held = os.open(image, os.O_PATH | os.O_DIRECTORY)
    try:
        shutil.rmtree(image)
        os.symlink(app / "ghcr.io/org/team/app:1", image)
        assert len(os.listdir(image)) == 4
        assert (image / "blobs/sha256" / APP.id[7:]).read_bytes()
    finally:
        os.close(held)


def test_an_image_loaded_during_a_removal_shows_all_files(app: Mounted) -> None:
    """A removal concerns the image that had the name when it began."""
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


def test_an_open_file_stays_readable_after_the_removal(app: Mounted) -> None:
    with open(app / "app:1/manifest.json", "rb") as file:
        shutil.rmtree(app / "app:1")
        assert file.read().startswith(b"[")


def test_rmdir_removes_a_half_removed_image(app: Mounted) -> None:
    (app / "app:1/index.json").unlink()
    os.rmdir(app / "app:1")
    assert app.names() == ["ghcr.io", "import"]


def test_a_shared_blob_stays_readable_during_the_removal_of_an_image(app: Mounted) -> None:
    """The blob is the same inode in both images."""
    blob = f"blobs/sha256/{APP.id[7:]}"
    other = app / "ghcr.io/org/team/app:1" / blob
    before = other.read_bytes()
    shutil.rmtree(app / "app:1")
    assert other.read_bytes() == before
    assert other.stat().st_nlink == 1


# -- what comes back ------------------------------------------------------------------------------


@pytest.fixture
def timed(mount: Callable[..., Mounted], clock: Clock) -> Mounted:
    mounted = mount(launcher=clock.launcher)
    mounted.load(archives.docker_archive((APP, ["app:1"])))
    return mounted


def picture(directory: Path) -> dict[str, tuple[int, bytes]]:
    return {
        str(path.relative_to(directory)): (
            path.stat().st_ino,
            path.read_bytes() if path.is_file() else b"",
        )
        for path in directory.rglob("*")
    }


@pytest.mark.parametrize("held", ["", "blobs", "blobs/sha256", "index.json"])
def test_an_unfinished_removal_is_undone_after_a_while(
    timed: Mounted, clock: Clock, held: str
) -> None:
    """This holds even if a process still has a removed file open, as a suspended `rm` has."""
    image = timed / "app:1"
    before = picture(image)
    holding = os.open(image / held, os.O_RDONLY)
    try:
        run("bash", "-c", f"rm -r '{image}'/*")
        assert os.listdir(image) == []
        clock.advance(PATIENCE - 1)
        assert os.listdir(image) == []
        assert not (image / "index.json").exists()
        clock.advance(1)
        assert picture(image) == before
        run("tar", "-C", image, "-cf", "/dev/null", ".")
    finally:
        os.close(holding)
    assert timed.names() == ["app:1", "import"]
    shutil.rmtree(image)
    assert "app:1" not in timed.names()


def test_each_unlink_extends_the_time_of_the_removal(timed: Mounted, clock: Clock) -> None:
    image = timed / "app:1"
    for path in sorted(image.rglob("*"), reverse=True):
        clock.advance(PATIENCE - 1)
        if path.is_dir():
            path.rmdir()
        else:
            path.unlink()
    assert os.listdir(image) == []
    clock.advance(PATIENCE)
    assert len(os.listdir(image)) == 4


def test_a_listing_that_began_before_the_removal_is_not_cached(
    timed: Mounted, clock: Clock
) -> None:
    """The kernel does not keep the entries that such a listing looks up."""
    image = timed / "app:1"
    with os.scandir(image) as listing:
        next(listing)
        (image / "oci-layout").unlink()
        for entry in listing:
            with suppress(FileNotFoundError):
                entry.stat()
    assert not (image / "oci-layout").exists()
    clock.advance(PATIENCE)
    assert (image / "oci-layout").exists()

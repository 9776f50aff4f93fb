"""Images removed as people and programs do it: from the leaves to the directory itself."""

import os
import shutil
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest

from imgfs.vfs.removals import PATIENCE
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


# -- what comes back ------------------------------------------------------------------------------


class Clock:
    """The mount's clock: a file's time, in seconds."""

    def __init__(self, path: Path) -> None:
        self.path = path
        path.touch()
        self.now = 0.0
        self.passes(1000)

    def passes(self, seconds: float) -> None:
        self.now += seconds
        os.utime(self.path, (self.now, self.now))


@pytest.fixture
def clock(tmp_path: Path) -> Clock:
    return Clock(tmp_path / "clock")


@pytest.fixture
def timed(mount: Callable[..., Mounted], clock: Clock) -> Mounted:
    launcher = sys.executable, str(Path(__file__).with_name("with_clock.py")), str(clock.path)
    mounted = mount(launcher=launcher)
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
def test_a_removal_that_stops_is_taken_back(timed: Mounted, clock: Clock, held: str) -> None:
    """Also where somebody still holds what is gone, as a suspended `rm` does."""
    image = timed / "app:1"
    before = picture(image)
    holding = os.open(image / held, os.O_RDONLY)
    try:
        run("bash", "-c", f"rm -r '{image}'/*")
        assert os.listdir(image) == []
        clock.passes(PATIENCE - 1)
        assert os.listdir(image) == []
        assert not (image / "index.json").exists()
        clock.passes(1)
        assert picture(image) == before
        run("tar", "-C", image, "-cf", "/dev/null", ".")
    finally:
        os.close(holding)
    assert timed.names() == ["app:1", "import"]
    shutil.rmtree(image)
    assert "app:1" not in timed.names()


def test_each_entry_gives_the_rest_its_time(timed: Mounted, clock: Clock) -> None:
    image = timed / "app:1"
    for path in sorted(image.rglob("*"), reverse=True):
        clock.passes(PATIENCE - 1)
        if path.is_dir():
            path.rmdir()
        else:
            path.unlink()
    assert os.listdir(image) == []
    clock.passes(PATIENCE)
    assert len(os.listdir(image)) == 4


def test_a_listing_that_began_before_tells_nothing_for_long(timed: Mounted, clock: Clock) -> None:
    """What it makes the kernel look at is not kept."""
    image = timed / "app:1"
    with os.scandir(image) as listing:
        next(listing)
        (image / "oci-layout").unlink()
        for entry in listing:
            with suppress(FileNotFoundError):
                entry.stat()
    assert not (image / "oci-layout").exists()
    clock.passes(PATIENCE)
    assert (image / "oci-layout").exists()

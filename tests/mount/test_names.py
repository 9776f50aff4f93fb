"""Tags changed with mv, ln and rmdir."""

import json
import os
from pathlib import Path

import pytest

from tests import archives
from tests.archives import ImageParts
from tests.mounts import Mounted, run

APP = ImageParts()


@pytest.fixture
def app(mounted: Mounted) -> Mounted:
    mounted.load(archives.docker_archive((APP, ["app:1", "ghcr.io/org/app:1"])))
    (mounted.drop / "x.tar").unlink()
    return mounted


def ref_names(directory: Path) -> list[str]:
    index = json.loads((directory / "index.json").read_bytes())
    return [entry["annotations"]["io.containerd.image.name"] for entry in index["manifests"]]


def test_mv_retags(app: Mounted) -> None:
    assert ref_names(app / "app:1") == ["docker.io/library/app:1"]
    run("mv", app / "app:1", app / "app:old")
    assert app.names() == ["app:old", "ghcr.io", "import"]
    assert ref_names(app / "app:old") == ["docker.io/library/app:old"]


def test_mv_between_repositories(app: Mounted) -> None:
    run("mv", app / "app:1", app / "ghcr.io/org/moved:2")
    assert app.names("ghcr.io/org") == ["app:1", "moved:2"]
    assert app.names() == ["ghcr.io", "import"]


def test_ln_adds_a_tag(app: Mounted) -> None:
    run("ln", "-s", "app:1", app / "app:latest")
    assert (app / "app:latest").is_dir()
    assert not (app / "app:latest").is_symlink()
    assert ref_names(app / "app:latest") == ["docker.io/library/app:latest"]
    assert app.names() == ["app:1", "app:latest", "ghcr.io", "import"]


@pytest.mark.parametrize("target", ["ghcr.io/org/app:1", "{mount}/ghcr.io/org/app:1", "./app:1"])
def test_ln_accepts_every_path_of_an_image(app: Mounted, target: str) -> None:
    os.symlink(target.format(mount=app.path), app / "new:1")
    assert ref_names(app / "new:1") == ["docker.io/library/new:1"]


def test_the_link_count_of_a_blob_is_the_number_of_its_images(app: Mounted) -> None:
    blob = f"blobs/sha256/{APP.id[7:]}"
    assert (app / "app:1" / blob).stat().st_nlink == 2
    os.symlink("app:1", app / "app:2")
    assert (app / "app:1" / blob).stat().st_nlink == 3
    os.rmdir(app / "app:2")
    assert (app / "app:1" / blob).stat().st_nlink == 2


def test_rmdir_untags_and_the_image_stays_under_its_digest(app: Mounted) -> None:
    digest = os.getxattr(app / "app:1", "user.oci.digest").decode()
    os.rmdir(app / "app:1")
    assert app.names() == ["ghcr.io", "import"]
    os.rmdir(app / "ghcr.io/org/app:1")
    assert app.names() == ["import", digest]
    os.rmdir(app / digest)
    assert app.names() == ["import"]


@pytest.mark.parametrize(
    ("new", "message"),
    [
        ("ghcr.io/org/app:1", "File exists"),
        ("no-tag", "Invalid argument"),
        ("UPPER:1", "Invalid argument"),
        ("docker.io/library/full:1", "No such file"),
        ("import/x:1", "Operation not permitted"),
    ],
)
def test_invalid_names_are_refused(app: Mounted, new: str, message: str) -> None:
    before = app.names()
    with pytest.raises(OSError, match=message):
        os.symlink("app:1", app / new)
    with pytest.raises(OSError):  # noqa: PT011 (mv has other words for the same refusals)
        os.rename(app / "app:1", app / new)
    assert app.names() == before


def test_a_link_to_a_missing_image_is_refused(app: Mounted) -> None:
    with pytest.raises(FileNotFoundError):
        os.symlink("nope:1", app / "new:1")
    with pytest.raises(OSError, match="cross-device"):
        os.symlink("/etc/passwd", app / "new:1")


@pytest.mark.parametrize("name", ["import", "ghcr.io", ".imgfs"])
def test_what_is_no_image_cannot_be_removed_or_renamed(app: Mounted, name: str) -> None:
    with pytest.raises(OSError):  # noqa: PT011 (EPERM or ENOTEMPTY)
        os.rmdir(app / name)
    with pytest.raises(OSError):  # noqa: PT011 (EPERM or EROFS)
        os.rename(app / name, app / "moved:1")
    assert (app / name).is_dir()


# -- namespaces -----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["team", "quay.io", "localhost:5000", "team/deep/er"])
def test_an_image_moves_into_a_new_namespace_and_back(app: Mounted, name: str) -> None:
    before = app.names()
    (app / name).mkdir(parents=True)
    assert os.listdir(app / name) == []
    assert name.split("/")[0] in app.names()
    run("mv", app / "app:1", app / name / "app:1")
    assert ref_names(app / name / "app:1")[0].endswith(f"{name}/app:1")
    run("mv", app / name / "app:1", app / "app:1")
    assert app.names() == before
    assert not (app / name).exists()


@pytest.mark.parametrize("target", ["../app:1", "app:1", "{mount}/app:1"])
def test_ln_tags_into_a_new_namespace(app: Mounted, target: str) -> None:
    (app / "team").mkdir()
    os.symlink(target.format(mount=app.path), app / "team/app:1")
    assert ref_names(app / "team/app:1") == ["docker.io/team/app:1"]


def test_an_empty_namespace_is_removed_by_rmdir(app: Mounted) -> None:
    before = app.names()
    (app / "team/a").mkdir(parents=True)
    with pytest.raises(FileExistsError):
        (app / "team").mkdir()
    with pytest.raises(OSError, match="not empty"):
        (app / "team").rmdir()
    with pytest.raises(OSError, match="not empty"):
        (app / "ghcr.io").rmdir()
    (app / "team/a").rmdir()
    (app / "team").rmdir()
    assert app.names() == before
    (app / "team").mkdir()
    assert app.names() == sorted([*before, "team"])


@pytest.mark.parametrize("name", [".Trash-0", "New Folder", "app:2", "a:b", "ghcr.io/A", "ü"])
def test_mkdir_refuses_what_no_image_name_can_begin_with(app: Mounted, name: str) -> None:
    with pytest.raises(OSError, match="Invalid argument"):
        (app / name).mkdir()
    assert not (app / name).exists()


def test_a_namespace_has_the_time_of_its_newest_image(mounted: Mounted) -> None:
    old, new = (ImageParts(created=f"20{year}-01-01T00:00:00Z") for year in (20, 24))
    mounted.load(archives.docker_archive((old, ["a/b/x:1", "c/x:1"]), (new, ["a/c/y:1"])))
    times = {name: (mounted / name).stat().st_mtime for name in ("a", "a/b", "a/c", "c", "c/x")}
    assert times == dict.fromkeys(("a", "a/c"), 1704067200) | dict.fromkeys(
        ("a/b", "c", "c/x"), 1577836800
    )
    os.rename(mounted / "a/c/y:1", mounted / "c/y:1")
    assert (mounted / "a").stat().st_mtime == 1577836800
    assert (mounted / "c").stat().st_mtime == 1704067200

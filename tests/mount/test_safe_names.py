"""`imgfs mount -o names=safe`: names without colons."""

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from tests import archives
from tests.archives import ImageParts
from tests.local_engine import LocalEngine
from tests.mounts import Mounted, run

APP = ImageParts()
NAMES = ["app:1", "ghcr.io/org/a--b:1.0", "localhost:5000/team/app:1"]


@pytest.fixture
def safe(mount: Callable[..., Mounted]) -> Mounted:
    one = mount(options=("-o", "names=safe"))
    one.load(archives.docker_archive((APP, NAMES)))
    return one


def name_of(directory: Path) -> str:
    return os.getxattr(directory, "user.oci.name").decode()


def test_no_name_has_a_colon_and_attributes_have_the_image_names(safe: Mounted) -> None:
    assert safe.names() == ["app--1", "ghcr.io", "import", "localhost--5000"]
    assert safe.names("ghcr.io/org") == ["a---b--1.0"]
    assert safe.names("localhost--5000/team") == ["app--1"]
    assert name_of(safe / "app--1") == "docker.io/library/app:1"
    assert name_of(safe / "ghcr.io/org/a---b--1.0") == "ghcr.io/org/a--b:1.0"
    assert name_of(safe / "localhost--5000/team/app--1") == "localhost:5000/team/app:1"
    (entry,) = json.loads((safe / "app--1/index.json").read_bytes())["manifests"]
    assert entry["annotations"]["org.opencontainers.image.ref.name"] == "1"


def test_names_with_colons_resolve_but_are_not_listed(safe: Mounted) -> None:
    digest = os.getxattr(safe / "app--1", "user.oci.digest").decode()
    assert name_of(safe / "localhost:5000/team/app:1") == "localhost:5000/team/app:1"
    assert name_of(safe / "localhost:5000/team/app--1") == "localhost:5000/team/app:1"
    assert os.path.samefile(safe / "app:1", safe / "app--1")
    for path in (digest, digest.replace(":", "--"), f"app@{digest.replace(':', '--')}"):
        assert (safe / path / "oci-layout").is_file()
    assert safe.names() == ["app--1", "ghcr.io", "import", "localhost--5000"]


def test_a_repository_directory_is_a_layout_with_its_tags(safe: Mounted) -> None:
    for path in ("app", "ghcr.io/org/a---b", "ghcr.io/org/a--b", "localhost--5000/team/app"):
        (entry,) = json.loads((safe / path / "index.json").read_bytes())["manifests"]
        assert entry["annotations"]["org.opencontainers.image.ref.name"] in ("1", "1.0")


def test_tags_are_changed_by_either_name(safe: Mounted, tmp_path: Path) -> None:
    os.rename(safe / "app--1", safe / "app--old")
    os.symlink("app--old", safe / "x---y--1")
    os.symlink(f"{safe.path}/localhost--5000/team/app--1", safe / "localhost--5000/team/app--2")
    os.symlink("app:old", safe / "x--y:2")
    os.rmdir(safe / "ghcr.io/org/a---b--1.0")
    os.rmdir(safe / "localhost:5000/team/app:1")
    with LocalEngine(tmp_path / "store") as engine:
        assert [image.familiar for image in engine.images.all()] == [
            "app:old",
            "x--y:1",
            "x--y:2",
            "localhost:5000/team/app:2",
        ]
    with pytest.raises(FileExistsError):
        os.symlink("app--old", safe / "x---y--1")
    with pytest.raises(OSError, match="Invalid argument"):
        os.rename(safe / "app--old", safe / "no-tag")


def test_a_change_by_a_command_shows_at_once_under_both_names(
    safe: Mounted, tmp_path: Path
) -> None:
    other = ImageParts(layers=[archives.layer("other")])
    with LocalEngine(tmp_path / "store") as engine, engine.begin_import() as session:
        session.feed(archives.docker_archive((other, ["other:1"])))
        session.finish()
        for turn in range(20):
            source = ("other:1", "localhost:5000/team/app:1")[turn % 2]
            engine.tag(source, "app:1")
            expected = engine.find_one(source).target.digest.encode()
            for name in ("app--1", "app:1", "app--1"):
                assert os.getxattr(safe / name, "user.oci.digest") == expected
            assert safe.names()[0] == "app--1"


def test_an_untagged_image_is_shown_by_its_digest(mount: Callable[..., Mounted]) -> None:
    one = mount(options=("--names", "safe"))
    one.load(archives.docker_archive((APP, None)))
    (name,) = (name for name in one.names() if name != "import")
    assert name == os.getxattr(one / name, "user.oci.digest").decode().replace(":", "--")


def test_every_name_gives_the_same_archive(safe: Mounted, mount: Callable[..., Mounted]) -> None:
    other = mount(at="familiar")
    tars = {
        run("tar", "-C", path, "-c", ".").stdout
        for path in (safe / "app--1", safe / "app:1", other / "app:1")
    }
    assert len(tars) == 1
    assert not os.path.lexists(other / "app--1")

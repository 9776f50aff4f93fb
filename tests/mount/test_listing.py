"""Directories with many names list each name once, whichever way the kernel lists them."""

import os
from pathlib import Path

import pytest

from imgfs.fuse.native.library import load
from tests import archives
from tests.archives import ImageParts
from tests.local_engine import LocalEngine
from tests.mounts import Mounted, run
from tests.waiting import wait_until

APP = ImageParts()
NAMES = [f"app-{number:04}:{'x' * (number % 128)}t" for number in range(1500)]


@pytest.fixture
def many(mounted_each_way: Mounted) -> Mounted:
    mounted_each_way.load(archives.docker_archive((APP, NAMES)))
    return mounted_each_way


def test_every_name_is_listed_once(many: Mounted) -> None:
    assert sorted(os.listdir(many.path)) == sorted([*NAMES, "import"])
    listed = run("ls", "-U", many.path).stdout.decode().split()
    assert listed == sorted(listed)


def test_numbers_and_types_are_those_of_stat(many: Mounted) -> None:
    """This holds for entries that are listed with their attributes, and for those without."""
    with os.scandir(many.path) as found:
        seen = {item.name: (item.inode(), item.is_dir(follow_symlinks=False)) for item in found}
    assert seen == {name: (os.stat(many / name).st_ino, True) for name in [*NAMES, "import"]}
    layout = many / NAMES[0]
    with os.scandir(layout) as found:
        assert {i.name for i in found if i.is_file()} == {
            *("index.json", "manifest.json", "oci-layout")
        }


def test_ls_and_find_list_every_name_with_its_attributes(many: Mounted) -> None:
    """The kernel requests names and attributes together."""
    lines = run("ls", "-l", many.path).stdout.decode().splitlines()
    assert len(lines) == len(NAMES) + 2
    assert len(run("find", many.path, "-maxdepth", "1").stdout.splitlines()) == len(NAMES) + 2


def test_listing_only_names_makes_no_inodes(mounted: Mounted) -> None:
    """The kernel asks for attributes with its first request only."""
    if isinstance(part := load(), str):
        pytest.skip(part)
    mounted.load(archives.docker_archive((APP, NAMES)))
    assert len(os.listdir(mounted.path)) == len(NAMES) + 1
    assert mounted.status("inodes") < len(NAMES) // 2


def test_listed_inodes_are_dropped_when_their_names_have_gone(many: Mounted) -> None:
    """Each lookup that a listing has counted is given back."""
    for _ in range(3):
        assert len(os.listdir(many.path)) == len(NAMES) + 1
    with LocalEngine(many.store) as engine, engine.store.transaction():
        for name in NAMES[1:]:
            engine.remove(name)
    wait_until(lambda: many.names() == [NAMES[0], "import"], "the names go")
    wait_until(lambda: many.status("inodes") < 20, "their inodes go", 120)


@pytest.mark.parametrize("name", [".", "import", "ghcr.io", "ghcr.io/org", ".imgfs"])
def test_fixed_directories_list_dot_and_dot_dot(mounted_each_way: Mounted, name: str) -> None:
    mounted_each_way.load(archives.docker_archive((APP, ["ghcr.io/org/app:1"])))
    check_dots(mounted_each_way / name)


def test_image_directories_list_dot_and_dot_dot(mounted_each_way: Mounted) -> None:
    mounted_each_way.load(archives.docker_archive((APP, ["ghcr.io/org/app:1"])))
    for name in ("", "blobs", "blobs/sha256"):
        check_dots(mounted_each_way / "ghcr.io/org/app:1" / name)


def check_dots(directory: Path) -> None:
    lines = run("ls", "-fi", directory).stdout.decode().splitlines()
    listed = {name: number for number, name in (line.split(None, 1) for line in lines)}
    assert int(listed["."]) == directory.stat().st_ino
    if not directory.is_mount():
        assert int(listed[".."]) == directory.parent.stat().st_ino
    assert ".." in listed
    assert run("ls", "-la", directory).stdout.splitlines()[1].endswith(b" .")


def test_an_open_directory_lists_what_has_changed_from_its_start(
    mounted_each_way: Mounted,
) -> None:
    """Also one that is a repository, whose layout has to be read."""
    names = ["ghcr.io/org/app:1", "ghcr.io/org/app/x:1"]
    mounted_each_way.load(archives.docker_archive((APP, names)))
    for path in ("", "ghcr.io/org", "ghcr.io/org/app", "rootfs/ghcr.io/org/app"):
        at_rest = os.open(mounted_each_way / path, os.O_RDONLY)
        read = os.open(mounted_each_way / path, os.O_RDONLY)
        try:
            before = sorted(os.listdir(read))
            prefix = path.removeprefix("rootfs/")
            with LocalEngine(mounted_each_way.store) as engine:
                engine.tag("ghcr.io/org/app:1", f"{prefix}/new:1".lstrip("/"))
            for descriptor in (read, at_rest, read):
                assert sorted(os.listdir(descriptor)) == sorted([*before, "new:1"]), path
            with LocalEngine(mounted_each_way.store) as engine:
                engine.remove(f"{prefix}/new:1".lstrip("/"))
        finally:
            os.close(at_rest)
            os.close(read)


def test_everything_listed_can_be_copied(mounted: Mounted, tmp_path: Path) -> None:
    """A tag of 128 bytes behind a name of 237 is a reference, and too long for a file system."""
    long = f"{'a' * 237}:{'1' * 128}"
    mounted.load(archives.docker_archive((APP, [long, "app:1"])))
    assert mounted.names() == ["app:1", "import"]
    run("cp", "-a", mounted.path, tmp_path / "copy")
    digest = os.getxattr(mounted / "app:1", "user.oci.digest").decode()
    assert "index.json" in os.listdir(mounted / digest)
    with LocalEngine(mounted.store) as engine:
        assert len(engine.images.all()) == 2

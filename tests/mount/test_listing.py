"""Many names in a directory: all of them, once, whichever way the kernel asks."""

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


def test_all_names(many: Mounted) -> None:
    assert sorted(os.listdir(many.path)) == sorted([*NAMES, "import"])
    listed = run("ls", "-U", many.path).stdout.decode().split()
    assert listed == sorted(listed)


def test_numbers_and_types_are_those_of_stat(many: Mounted) -> None:
    """Both of what is listed with its attributes, and of what is not."""
    with os.scandir(many.path) as found:
        seen = {item.name: (item.inode(), item.is_dir(follow_symlinks=False)) for item in found}
    assert seen == {name: (os.stat(many / name).st_ino, True) for name in [*NAMES, "import"]}
    layout = many / NAMES[0]
    with os.scandir(layout) as found:
        assert {i.name for i in found if i.is_file()} == {
            *("index.json", "manifest.json", "oci-layout")
        }


def test_looked_at_while_it_is_listed(many: Mounted) -> None:
    """As ls -l does; names and attributes come together."""
    lines = run("ls", "-l", many.path).stdout.decode().splitlines()
    assert len(lines) == len(NAMES) + 2
    assert len(run("find", many.path, "-maxdepth", "1").stdout.splitlines()) == len(NAMES) + 2


def test_names_alone_make_no_inodes(mounted: Mounted) -> None:
    """But for those that come with the first answer."""
    if isinstance(part := load(), str):
        pytest.skip(part)
    mounted.load(archives.docker_archive((APP, NAMES)))
    assert len(os.listdir(mounted.path)) == len(NAMES) + 1
    assert mounted.status("inodes") < len(NAMES) // 2


def test_what_was_listed_is_forgotten(many: Mounted) -> None:
    """Each lookup that was counted is given back when the name has gone."""
    for _ in range(3):
        assert len(os.listdir(many.path)) == len(NAMES) + 1
    with LocalEngine(many.store) as engine:
        for name in NAMES[1:]:
            engine.remove(name)
    wait_until(lambda: many.names() == [NAMES[0], "import"], "the names go")
    wait_until(lambda: many.status("inodes") < 20, "their inodes go")


@pytest.mark.parametrize("name", [".", "import", "ghcr.io", "ghcr.io/org", ".imgfs"])
def test_each_directory_lists_itself_and_its_parent(mounted_each_way: Mounted, name: str) -> None:
    mounted_each_way.load(archives.docker_archive((APP, ["ghcr.io/org/app:1"])))
    check_dots(mounted_each_way / name)


def test_so_do_those_of_an_image(mounted_each_way: Mounted) -> None:
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

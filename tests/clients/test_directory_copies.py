"""Copiers and archivers put layouts into `import/`, whatever the order in which they write."""

import os
import re
import shutil
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from tests import archives, directories
from tests.archives import ImageParts
from tests.clients.client import Client, find, shell
from tests.directories import layout, put, status
from tests.mounts import IMGFS, Mounted, run

BASE = archives.layer("base", os.urandom(3_000_000))
APP = ImageParts(layers=[BASE, archives.layer("app")])
NEXT = ImageParts(layers=[BASE, archives.layer("next")])
LAYOUT = layout((APP, "1"))
BOTH = layout((APP, "1"), (NEXT, "2"))
DOCKER = archives.docker_archive((APP, ["app:1"]))
SHARED = directories.blob_path(archives.compressed(BASE))


def old_docker_archive() -> bytes:
    """As docker save once wrote it: the layer's name is a symlink out of its directory."""
    files = dict(archives.members(DOCKER))
    (path,) = [name for name in files if files[name] == BASE]
    layer = files.pop(path)
    link = archives.link(path, "../layers/base.tar")
    return archives.tar([("layers/base.tar", layer), link, *files.items()])


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A directory on a disk with one image, its files read-only like those of a mount."""
    directory = tmp_path / "app"
    put(directory, LAYOUT)
    return directory


@pytest.fixture
def rsh(tmp_path: Path) -> Path:
    """A remote shell that goes nowhere: rsync's two ends talk through pipes."""
    script = tmp_path / "rsh"
    script.write_text('#!/bin/sh\nshift\nexec "$@"\n')
    script.chmod(0o755)
    return script


COPIERS = {
    "cp -r": "cp -r {s} {d}/app",
    "cp -a": "cp -a {s} {d}/",
    "cp -au": "cp -au {s} {d}/",
    "cp --reflink": "cp -r --reflink=auto --sparse=always {s} {d}/app",
    "cp of parts": "mkdir {d}/app && cp -r {s}/index.json {s}/oci-layout {s}/blobs {d}/app/",
    "mv": "cp -r {s} {s}.2 && mv {s}.2 {d}/app",
    "rsync -r": "rsync -r {s} {d}/",
    "rsync -rt": "rsync -rt {s} {d}/",
    "rsync -a": "rsync -a {s}/ {d}/app",
    "rsync -aH": "rsync -aHX {s} {d}/",
    "rsync --inplace": "rsync -r --inplace {s} {d}/",
    "rsync --delay-updates": "rsync -rt --delay-updates {s} {d}/",
    "rsync --partial": "rsync -rt --partial {s} {d}/",
    "rsync --partial-dir": "rsync -rt --partial-dir=.partial {s} {d}/",
    "rsync --sparse": "rsync -rS {s} {d}/",
    "rsync --append": "rsync -rt --append {s} {d}/",
    "rsync --checksum": "rsync -rc {s} {d}/ && rsync -rc {s} {d}/",
    "rsync --fsync": "rsync -rt --fsync {s} {d}/",
    "rsync --temp-dir": (
        "mkdir {d}/app {d}/app/t && rsync -rt --temp-dir=t {s}/ {d}/app && rmdir {d}/app/t"
    ),
    "rsync to a server": "rsync -rt -e {rsh} {s} host:{d}/",
    "tar": "tar -C {s}/.. -c app | tar -C {d} -x",
    "tar --no-same-owner": "tar -C {s}/.. -c app | tar -C {d} -x --no-same-owner -m",
    "tar --overwrite": "mkdir {d}/app && tar -C {s} -c . | tar -C {d}/app -x --overwrite",
    "bsdtar": "mkdir {d}/app && tar -C {s} -c . | bsdtar -C {d}/app -x",
    "install": (
        "install -d {d}/app/blobs/sha256 && cd {s} "
        "&& find . -type f -exec install -m 644 {{}} {d}/app/{{}} \\;"
    ),
    "gio": (
        "gio mkdir -p {d}/app/blobs/sha256 && cd {s} "
        "&& find . -type f -exec gio copy {{}} {d}/app/{{}} \\;"
    ),
    "cat": (
        "mkdir -p {d}/app/blobs/sha256 && cd {s} "
        "&& find . -type f -exec sh -c 'cat {{}} > {d}/app/{{}}' \\;"
    ),
    "dd": (
        "mkdir -p {d}/app/blobs/sha256 && cd {s} "
        "&& find . -type f -exec dd if={{}} of={d}/app/{{}} bs=777 conv=fsync status=none \\;"
    ),
    "rclone": "rclone copy {s} {d}/app",
    "python3": "python3 -c 'import shutil,sys; shutil.copytree(*sys.argv[1:])' {s} {d}/app",
}


@pytest.mark.parametrize("name", COPIERS)
@pytest.mark.parametrize("held", ["nothing", "the base", "all of it"])
def test_a_layout_is_copied_by(
    name: str, held: str, source: Path, rsh: Path, mounted: Mounted
) -> None:
    find(name.partition(" ")[0])
    if held == "the base":
        mounted.load(archives.oci_archive((NEXT, "docker.io/library/next:1"), gzipped=True))
    elif held == "all of it":
        mounted.load(archives.oci_archive((APP, "docker.io/library/next:1"), gzipped=True))
    before = {"import"} if held == "nothing" else {"import", "next:1"}
    shell(COPIERS[name].format(s=source, d=mounted.drop, rsh=rsh))
    assert set(mounted.names()) == before | {"app:1"}
    directory = mounted.drop / "app"
    assert status(directory) == "loaded"
    assert mounted.report("app")["status"] == "loaded"
    assert mounted.report("app")["images"][0]["id"] == APP.id
    assert directories.listed(directory) == LAYOUT
    assert mounted.names("import") == ["app"]
    shutil.rmtree(directory)
    run(*IMGFS, "--store", mounted.store, "gc")
    assert (mounted / "app:1" / SHARED).read_bytes() == LAYOUT[SHARED]
    directories.check(mounted)


UPDATERS = {
    "rsync -rt": "rsync -rt {s}/ {d}/app",
    "rsync -r": "rsync -r {s}/ {d}/app",
    "rsync --delete": "rsync -a --delete {s}/ {d}/app",
    "rsync --inplace": "rsync -r --inplace {s}/ {d}/app",
    "cp -r": "cp -rT {s} {d}/app",
    "cp -au": "cp -auT {s} {d}/app",
    "cp -rf": "cp -rfT {s} {d}/app",
    "tar": "tar -C {s} -c . | tar -C {d}/app -x",
    "bsdtar": "tar -C {s} -c . | bsdtar -C {d}/app -x",
    "rclone": "rclone copy {s} {d}/app",
}


@pytest.mark.parametrize("name", UPDATERS)
def test_a_directory_is_written_over_and_grows_by(
    name: str, source: Path, mounted: Mounted
) -> None:
    find(name.partition(" ")[0])
    (mounted.drop / "app").mkdir()
    for files, names in ((LAYOUT, ["app:1"]), (LAYOUT, ["app:1"]), (BOTH, ["app:1", "app:2"])):
        put(source, files)
        shell(UPDATERS[name].format(s=source, d=mounted.drop))
        assert mounted.names() == [*names, "import"]
        assert status(mounted.drop / "app") == "loaded"
    directories.check(mounted)


def test_an_image_directory_of_another_mount(
    mounted: Mounted, mount: Callable[..., Mounted]
) -> None:
    """Its name is in its index; what it holds is both layouts, and it is read-only."""
    other = mount(store="other", at="other-mnt")
    other.load(archives.oci_archive((APP, "ghcr.io/org/app:1"), gzipped=True))
    image = other / "ghcr.io/org/app:1"
    for command in ("cp -r", "cp -a", "rsync -rt", "rsync -a"):
        run(*command.split(), image, f"{mounted.drop}/")
        assert (mounted / "ghcr.io/org/app:1").is_dir()
        assert status(mounted.drop / "app:1") == "loaded"
        run("rm", "-r", mounted.drop / "app:1")
        run(*IMGFS, "--store", mounted.store, "rm", "ghcr.io/org/app:1")
        run(*IMGFS, "--store", mounted.store, "gc")
    directories.check(mounted)


def literal_bytes(stats: str) -> int:
    """The bytes of files that rsync --stats says it has moved."""
    return _figure("Literal data", stats)


def _figure(name: str, stats: str) -> int:
    found = re.search(rf"{name}: ([\d,]+)", stats)
    assert found
    return int(found[1].replace(",", ""))


def _transferred(stats: str) -> int:
    return _figure("Number of regular files transferred", stats)


def test_rsync_moves_what_the_other_side_lacks(
    rsh: Path, mounted: Mounted, mount: Callable[..., Mounted]
) -> None:
    there = mount(store="there", at="there-mnt")
    for image, tag in ((APP, "1"), (NEXT, "2")):
        name = f"docker.io/library/app:{tag}"
        mounted.load(archives.oci_archive((image, name), gzipped=True))
    rsync = Client((find("rsync"), "-rt", "--stats", "-e", str(rsh)))
    first = rsync(mounted / "app:1", f"host:{there.drop}/")
    assert literal_bytes(first) > len(LAYOUT[SHARED])
    second = rsync(mounted / "app:2", f"host:{there.drop}/")
    assert literal_bytes(second) < 10_000
    documents = {"index.json", "manifest.json", "oci-layout"}
    assert _transferred(second) == len(documents) + len(set(BOTH) - set(LAYOUT))
    assert there.names() == ["app:1", "app:2", "import"]
    assert _transferred(rsync(mounted / "app:2", f"host:{there.drop}/")) <= len(documents)
    directories.check(there)


UNPACKERS = {
    "tar": "mkdir {d}/old && tar -C {d}/old -xf {a}",
    "bsdtar": "mkdir {d}/old && bsdtar -C {d}/old -xf {a}",
    "cp -a": "mkdir {a}.d && tar -C {a}.d -xf {a} && cp -a {a}.d {d}/old",
    "cp -rL": "mkdir {a}.d && tar -C {a}.d -xf {a} && cp -rL {a}.d {d}/old",
    "rsync -a": "mkdir {a}.d && tar -C {a}.d -xf {a} && rsync -a {a}.d/ {d}/old",
    "rsync -rL": "mkdir {a}.d && tar -C {a}.d -xf {a} && rsync -rL {a}.d/ {d}/old",
}


@pytest.mark.parametrize("name", UNPACKERS)
@pytest.mark.parametrize("archive", [DOCKER, old_docker_archive()], ids=["plain", "symlinks"])
def test_a_docker_archive_is_unpacked_by(
    name: str, archive: bytes, mounted: Mounted, tmp_path: Path
) -> None:
    (tmp_path / "x.tar").write_bytes(archive)
    find(name.partition(" ")[0])
    shell(UNPACKERS[name].format(a=tmp_path / "x.tar", d=mounted.drop))
    assert mounted.names() == ["app:1", "import"]
    assert status(mounted.drop / "old") == "loaded"
    assert mounted.report("old")["images"][0]["id"] == APP.id
    shutil.rmtree(mounted.drop / "old")
    directories.check(mounted)


def test_restic_restores_layers_of_one_piece(mounted: Mounted, tmp_path: Path) -> None:
    """Of a larger file it writes the pieces in any order, and closes the file between them."""
    put(tmp_path / "app", layout((ImageParts(layers=[archives.layer("a")]), "1")))
    secret = tmp_path / "secret"
    secret.write_text("x")
    home = {"HOME": str(tmp_path), "XDG_CACHE_HOME": str(tmp_path / "cache")}
    options = ("--repo", str(tmp_path / "repository"), "--password-file", str(secret))
    restic = Client((find("restic"), *options), home)
    restic("init")
    restic("backup", tmp_path / "app")
    restic("restore", "latest", "--target", mounted.drop / "restored")
    assert status(mounted.drop / "restored") == "loaded"
    assert [path.name for path in mounted.path.rglob("*:1")] == ["app:1"]


def test_what_rsync_left_is_taken_up_again(source: Path, mounted: Mounted) -> None:
    """A transfer that ended in the middle of a layer, kept by --partial-dir."""
    directory = mounted.drop / "app"
    kept = directory / "blobs/sha256/.rsync-partial"
    kept.mkdir(parents=True)
    (kept / SHARED[-64:]).write_bytes(LAYOUT[SHARED][:1_000_000])
    options = ("-rt", "--no-whole-file", "--partial-dir=.rsync-partial", "--stats")
    stats = Client((find("rsync"), *options))(f"{source}/", directory)
    assert literal_bytes(stats) < len(LAYOUT[SHARED]) - 900_000
    assert mounted.names() == ["app:1", "import"]


def test_a_link_across_file_systems_is_refused(source: Path, mounted: Mounted) -> None:
    done = Client((find("cp"),)).run("-rl", source, mounted.drop / "app")
    assert done.returncode == 1
    assert b"Invalid cross-device link" in done.stderr
    assert mounted.names() == ["import"]


def test_cp_of_a_broken_layout_fails(source: Path, mounted: Mounted) -> None:
    blob = source / SHARED
    blob.chmod(stat.S_IRUSR | stat.S_IWUSR)
    blob.write_bytes(LAYOUT[SHARED][:-1])
    for command in (("cp", "-r"), ("rsync", "-r")):
        done = Client((find(command[0]), *command[1:])).run(source, f"{mounted.drop}/")
        assert done.returncode != 0
        assert b"Input/output error" in done.stderr
        assert mounted.names() == ["import"]
        assert SHARED[-64:] in mounted.report("app")["error"]
    blob.write_bytes(LAYOUT[SHARED])
    run("cp", "-rT", source, mounted.drop / "app")
    assert mounted.names() == ["app:1", "import"]

"""Everyday tools and ways to read, used on the tree."""

import hashlib
import mmap
import os
import socket
import tarfile
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from tests import archives
from tests.archives import ImageParts
from tests.mounts import Mounted, run

BASE = archives.layer("base", os.urandom(3_000_000))
APP = ImageParts(layers=[BASE, archives.layer("app")])
OTHER = ImageParts(layers=[BASE, archives.layer("other")])


@pytest.fixture
def app(mounted_each_way: Mounted) -> Mounted:
    images = (APP, ["app:1"]), (OTHER, ["ghcr.io/org/other:1"])
    mounted_each_way.load(archives.docker_archive(*images))
    return mounted_each_way


def base_blob(image: Path) -> Path:
    return image / "blobs/sha256" / archives.digest(BASE)[7:]


def content(directory: Path) -> dict[str, str]:
    return {
        str(p.relative_to(directory)): hashlib.sha256(p.read_bytes()).hexdigest()
        for p in directory.rglob("*")
        if p.is_file()
    }


def test_ls_find_and_stat_succeed(app: Mounted) -> None:
    listed = run("ls", "-lR", app / "app:1").stdout.decode()
    assert "manifest.json" in listed
    found = run("find", app.path, "-type", "f", "-name", "oci-layout").stdout.splitlines()
    assert len(found) == 2
    run("stat", app.path, app / "app:1", base_blob(app / "app:1"), app.drop)
    assert run("find", app / "app:1", "-newermt", "2030-01-01").stdout == b""


def test_du_counts_a_shared_layer_once(app: Mounted) -> None:
    one = int(run("du", "-sB1", app / "app:1").stdout.split()[0])
    both = run("du", "-scB1", app / "app:1", app / "ghcr.io/org/other:1").stdout.splitlines()
    assert one > len(BASE)
    assert int(both[-1].split()[0]) < one + len(BASE)


def test_df_shows_the_disk_of_the_store(app: Mounted) -> None:
    assert b"imgfs" in run("df", app.path).stdout


@pytest.mark.parametrize("command", ["cp -r {s} {d}", "cp -a {s} {d}", "rsync -aH {s}/ {d}/"])
def test_a_copy_equals_the_image_directory(app: Mounted, tmp_path: Path, command: str) -> None:
    copy = tmp_path / "copy"
    run("bash", "-c", command.format(s=app / "app:1", d=copy))
    assert content(copy) == content(app / "app:1")


def test_rsync_and_tar_of_several_images_store_a_shared_layer_once(
    app: Mounted, tmp_path: Path
) -> None:
    sources = [app / "app:1", app / "ghcr.io/org/other:1"]
    run("rsync", "-aH", *sources, tmp_path / "copy")
    (tmp_path / "cp").mkdir()
    run("cp", "-a", *sources, tmp_path / "cp")
    for copy in (tmp_path / "copy", tmp_path / "cp"):
        blobs = [base_blob(copy / source.name).stat() for source in sources]
        assert blobs[0].st_ino == blobs[1].st_ino
    tar = run("tar", "-C", app.path, "-c", "app:1", "ghcr.io").stdout
    assert len(tar) < 1.5 * len(BASE)


def test_a_tar_holds_no_links_and_no_holes(app: Mounted, tmp_path: Path) -> None:
    out = tmp_path / "out.tar"
    run("tar", "-S", "-C", app / "app:1", "-cf", out, ".")
    with tarfile.open(out) as archive:
        for member in archive:
            assert member.isreg() or member.isdir()
            assert not member.issparse()


def test_sha256sum_mmap_and_sendfile_return_the_content(app: Mounted) -> None:
    path = base_blob(app / "app:1")
    assert run("sha256sum", path).stdout.split()[0].decode() == path.name
    with open(path, "rb") as file, mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ) as view:
        assert hashlib.sha256(view).hexdigest() == path.name
    here, there = socket.socketpair()
    with here, there, open(path, "rb") as file:
        received = bytearray()

        def receive() -> None:
            while chunk := there.recv(1 << 16):
                received.extend(chunk)

        thread = threading.Thread(target=receive)
        thread.start()
        here.sendfile(file)
        here.close()
        thread.join()
    assert bytes(received) == BASE


def test_reads_at_every_offset_return_the_content(app: Mounted) -> None:
    descriptor = os.open(base_blob(app / "app:1"), os.O_RDONLY)
    try:
        for offset, size in [(0, 1), (4095, 2), (len(BASE) - 1, 10), (len(BASE), 1), (1 << 40, 1)]:
            assert os.pread(descriptor, size, offset) == BASE[offset : offset + size]
    finally:
        os.close(descriptor)


def test_eight_readers_and_two_loads_run_at_the_same_time(app: Mounted) -> None:
    failures: list[object] = []

    def attempt(what: Callable[[], object], expected: object) -> None:
        try:
            found = what()
            if found != expected:
                failures.append(found)
        except OSError as error:
            failures.append(error)

    def load(i: int) -> None:
        parts = ImageParts(layers=[BASE, archives.layer(f"new{i}")])
        app.load(archives.docker_archive((parts, [f"new:{i}"])), f"{i}.tar")

    expected = content(app / "app:1")
    threads = [
        *(
            threading.Thread(target=attempt, args=(lambda: content(app / "app:1"), expected))
            for _ in range(8)
        ),
        *(threading.Thread(target=attempt, args=(lambda i=i: load(i), None)) for i in range(2)),
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert {"new:0", "new:1"} < set(app.names())


def test_the_tar_of_an_image_directory_can_be_loaded_again(app: Mounted, tmp_path: Path) -> None:
    archive = tmp_path / "app.tar"
    run("bash", "-c", f"tar -C '{app.path}/app:1' -c . > '{archive}'")
    digest = os.getxattr(app / "app:1", "user.oci.digest")
    os.rmdir(app / "app:1")
    run("cp", archive, app.drop)
    assert os.getxattr(app / "app:1", "user.oci.digest") == digest

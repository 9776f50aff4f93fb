"""Hostile and unlucky directories in `import/`: paths that lead out of them, too much of
everything, names, full disks, and mounts that are killed.
"""

import errno
import os
import shutil
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests import archives, directories
from tests.archives import ImageParts
from tests.directories import blob_path, layout, put, status
from tests.faults import disks
from tests.faults.stores import leftovers
from tests.local_engine import LocalEngine
from tests.mount.clock import Clock
from tests.mount.test_directories import errno_of
from tests.mount.test_resources import figure
from tests.mounts import IMGFS, Mounted, has_ended, run, write
from tests.waiting import settled, wait_until

LARGE = archives.layer("large", os.urandom(1 << 20) * 3)
APP = ImageParts(layers=[LARGE])
LAYOUT = layout((APP, "1"))
LAYER = blob_path(archives.compressed(LARGE))
SMALL = layout((ImageParts(), "1"))


@pytest.fixture
def directory(mounted: Mounted) -> Path:
    """An empty directory in `import/`."""
    path = mounted.drop / "app"
    path.mkdir()
    return path


# -- paths ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "target",
    [
        "/etc/passwd",
        "..",
        "../..",
        "../other/index.json",
        "blobs/../../x",
        "./blobs/sha256/../../../../x",
        "a/b/c/../../../../x",
    ],
)
def test_a_symlink_that_leads_out_is_refused(directory: Path, target: str) -> None:
    assert errno_of((directory / "link").symlink_to, target) == errno.EPERM
    assert os.listdir(directory) == []


@pytest.mark.parametrize("name", ["index.json", "oci-layout", "manifest.json"])
def test_a_document_is_not_read_out_of_another_directory(mounted: Mounted, name: str) -> None:
    put(mounted.drop / "other", SMALL)
    directory = mounted.drop / "app"
    directory.mkdir()
    assert errno_of((directory / name).symlink_to, f"../other/{name}") == errno.EPERM
    assert mounted.names() == ["import", "other:1"]


def test_symlinks_in_a_circle(mounted: Mounted, directory: Path) -> None:
    (directory / "blobs").mkdir()
    for name, target in (("a", "b"), ("b", "a"), ("blobs/x", "..")):
        (directory / name).symlink_to(target)
    put(directory, {"oci-layout": SMALL["oci-layout"]})
    assert errno_of((directory / "a").read_bytes) == errno.ELOOP
    assert mounted.names() == ["import"]
    run("rm", "-r", directory)


def test_an_index_whose_digests_are_paths(mounted: Mounted, directory: Path) -> None:
    entry = {"mediaType": archives.OCI_MANIFEST, "digest": "sha256:../../../etc/passwd", "size": 7}
    index = archives.to_json({"schemaVersion": 2, "manifests": [entry]})
    with pytest.raises(OSError, match="Bad message"):
        put(directory, {"oci-layout": SMALL["oci-layout"], "index.json": index})
    assert mounted.names() == ["import"]


def test_special_files_are_refused(directory: Path) -> None:
    for kind in (os.mkfifo, lambda path: os.mknod(path, 0o020644, os.makedev(1, 3))):
        assert errno_of(kind, directory / "special") in (errno.EPERM, errno.ENOSYS, errno.EROFS)
    assert os.listdir(directory) == []


@pytest.mark.parametrize("place", ["app:1", ".imgfs", "."])
def test_a_directory_does_not_leave_import(mounted: Mounted, place: str) -> None:
    put(mounted.drop / "app", LAYOUT)
    found = errno_of(os.rename, mounted.drop / "app", mounted / place / "moved")
    assert found in (errno.EXDEV, errno.EPERM, errno.EROFS)
    assert status(mounted.drop / "app") == "loaded"


# -- too much -------------------------------------------------------------------------------------


def test_64_directories_in_each_other(directory: Path) -> None:
    path = directory
    for _ in range(63):
        path = path / "d"
        path.mkdir()
    assert errno_of((path / "d").mkdir) == errno.EMLINK
    write(path / "file", b"deep")
    assert (path / "file").read_bytes() == b"deep"
    shutil.rmtree(directory)


def test_a_deep_directory_is_not_moved_deeper(directory: Path) -> None:
    (directory / "/".join("a" * 40)).mkdir(parents=True)
    (directory / "/".join("b" * 40)).mkdir(parents=True)
    target = directory / "/".join("b" * 40) / "a"
    assert errno_of(os.rename, directory / "a", target) in (errno.EMLINK, errno.EPERM)
    shutil.rmtree(directory)


def test_a_name_of_more_than_255_bytes_is_refused(mounted: Mounted, directory: Path) -> None:
    (directory / "file").write_bytes(b"bytes")
    mounted.load(archives.docker_archive((ImageParts(), ["app:1"])))
    long = "é" * 128
    inner, outer = directory / long, mounted.drop / long
    for place, file in ((inner, directory / "file"), (outer, mounted.drop / "x.tar")):
        assert errno_of(place.touch) == errno.ENAMETOOLONG
        assert errno_of(os.mknod, place) == errno.ENAMETOOLONG
        assert errno_of(place.mkdir) == errno.ENAMETOOLONG
        assert errno_of(file.rename, place) == errno.ENAMETOOLONG
    assert errno_of(directory.rename, outer) == errno.ENAMETOOLONG
    assert errno_of(inner.symlink_to, "file") == errno.ENAMETOOLONG
    assert errno_of(inner.hardlink_to, directory / "file") == errno.ENAMETOOLONG
    assert os.listdir(directory) == ["file"]
    assert mounted.names("import") == ["app"]
    (directory / "file").rename(directory / long[1:])


def test_many_files_cost_little_memory(mounted: Mounted, directory: Path) -> None:
    (directory / "first").touch()
    before = settled(lambda: figure(mounted.pid, "status", "VmRSS"))
    for number in range(3000):
        os.close(os.open(directory / f"{number}", os.O_WRONLY | os.O_CREAT))
    assert len(os.listdir(directory)) == 3001
    assert figure(mounted.pid, "status", "VmRSS") - before < 3000 * 6
    shutil.rmtree(directory)


def test_a_document_that_never_ends(mounted: Mounted, directory: Path) -> None:
    """An index is no longer read, or refused, beyond the limit of an archive's."""
    put(directory, {name: data for name, data in SMALL.items() if name != "index.json"})
    descriptor = os.open(directory / "index.json", os.O_WRONLY | os.O_CREAT)
    with pytest.raises(OSError, match=r"Bad message|too large"):  # noqa: PT012 (either call)
        for _ in range(80):
            os.write(descriptor, b" " * (1 << 20))
        os.close(descriptor)
    assert figure(mounted.pid, "status", "VmHWM") < 200_000
    assert mounted.names() == ["import"]
    put(directory, {"index.json": SMALL["index.json"]})
    assert mounted.names() == ["app:1", "import"]


def test_a_blob_that_never_ends_reaches_the_limit(mount: Callable[..., Mounted]) -> None:
    mounted = mount(options=("-o", f"max_archive_bytes={1 << 20}"))
    with pytest.raises(OSError, match="File too large"):
        put(mounted.drop / "app", {LAYER: LARGE * 2})
    assert mounted.names() == ["import"]
    put(mounted.drop / "small", SMALL)
    assert mounted.names() == ["import", "small:1"]


# -- names ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("app", "app:1"),
        ("app:2", "app:1"),
        ("UPPER", None),
        ("with space", None),
        ("-dash", None),
        ("é", None),
        ("a" * 255, None),
        ("sha256:" + "0" * 64, None),
    ],
)
def test_a_directory_may_have_any_name(mounted: Mounted, name: str, shown: str | None) -> None:
    """One that cannot name an image leaves the image without a name."""
    put(mounted.drop / name, SMALL)
    assert status(mounted.drop / name) == "loaded"
    digest = archives.digest(ImageParts().manifest(gzipped=True))
    assert mounted.names() == sorted([shown or digest, "import"])
    run("rm", "-r", mounted.drop / name)
    directories.check(mounted)


@pytest.mark.parametrize("name", ["app.failed.txt", "x.tar.failed.txt"])
def test_a_name_of_a_report_is_refused(mounted: Mounted, name: str) -> None:
    assert errno_of((mounted.drop / name).mkdir) == errno.EPERM


def test_a_file_and_a_directory_have_different_names(mounted: Mounted) -> None:
    mounted.load(archives.oci_archive((ImageParts(), "docker.io/library/x:1")), "app")
    assert errno_of((mounted.drop / "app").mkdir) == errno.EEXIST
    put(mounted.drop / "dir", SMALL)
    assert errno_of(write, mounted.drop / "dir", b"x") in (errno.EISDIR, errno.EEXIST)


def test_bad_names_in_an_index(mounted: Mounted) -> None:
    for number, name in enumerate(("../../x:1", "a//b:1", "app:", "app:\udcff", "\x1b[31mred")):
        entry = archives.descriptor(
            ImageParts().manifest(gzipped=True),
            archives.OCI_MANIFEST,
            annotations={"io.containerd.image.name": name},
        )
        files = dict(archives.oci_members([entry], ImageParts().blobs(gzipped=True)))
        put(mounted.drop / f"d{number}", files)
        assert status(mounted.drop / f"d{number}") == "loaded"
    found = [path.name for path in mounted.path.iterdir() if path.name != "import"]
    assert all(name.startswith(("d", "sha256:")) for name in found), found


# -- faults ---------------------------------------------------------------------------------------


def is_gone(mounted: Mounted) -> bool:
    return has_ended(mounted.pid)


@pytest.mark.parametrize("written", ["half a layer", "a layer", "all but the index", "all"])
def test_what_a_killed_mount_leaves(written: str, mount: Callable[..., Mounted]) -> None:
    mounted = mount()
    put(mounted.drop / "before", SMALL)
    directory = mounted.drop / "app"
    directory.mkdir()
    descriptor = None
    if written == "half a layer":
        (directory / "blobs/sha256").mkdir(parents=True)
        descriptor = os.open(directory / LAYER, os.O_WRONLY | os.O_CREAT)
        os.write(descriptor, LAYOUT[LAYER][: len(LAYOUT[LAYER]) // 2])
        os.fsync(descriptor)
    elif written == "a layer":
        put(directory, {LAYER: LAYOUT[LAYER], "tmp": LARGE})
    else:
        put(directory, {name: LAYOUT[name] for name in LAYOUT if name != "index.json"})
        if written == "all":
            put(directory, {"index.json": LAYOUT["index.json"]})
    os.kill(mounted.pid, signal.SIGKILL)
    wait_until(lambda: is_gone(mounted), "the mount's process has ended")
    if descriptor is not None:
        assert errno_of(os.close, descriptor) in (errno.ENOTCONN, errno.ECONNABORTED, None)
    subprocess.run(["fusermount3", "-u", "-z", str(mounted.path)], check=True)
    run(*IMGFS, "--store", mounted.store, "gc")
    with LocalEngine(mounted.store) as engine:
        assert [*engine.check(), *engine.check_layers()] == []
        assert leftovers(engine) == []
        names = sorted(image.familiar for image in engine.images.all())
        assert names == (["app:1", "before:1"] if written == "all" else ["before:1"])
        assert not list((mounted.store / "leases").iterdir())
    again = mount()
    assert again.names("import") == []
    put(again.drop / "app", LAYOUT)
    assert again.names() == ["app:1", "before:1", "import"]


def test_an_unmount_leaves_nothing_of_an_incomplete_directory(
    mount: Callable[..., Mounted],
) -> None:
    mounted = mount()
    put(mounted.drop / "app", {LAYER: LAYOUT[LAYER], "tmp": LARGE})
    run("fusermount3", "-u", mounted.path)
    wait_until(lambda: is_gone(mounted), "the mount's process has ended")
    run(*IMGFS, "--store", mounted.store, "gc")
    with LocalEngine(mounted.store) as engine:
        assert leftovers(engine) == []
        assert engine.database.read("SELECT * FROM blobs") == []


def test_a_killed_writer_leaves_what_it_has_closed(mounted: Mounted, directory: Path) -> None:
    script = (
        "import os,sys,signal\n"
        "os.makedirs(os.path.dirname(sys.argv[1]), exist_ok=True)\n"
        "f=os.open(sys.argv[1],os.O_WRONLY|os.O_CREAT)\nos.write(f,b'half')\n"
        "os.kill(os.getpid(),signal.SIGKILL)\n"
    )
    done = subprocess.run(["python3", "-c", script, directory / LAYER], check=False)
    assert done.returncode == -signal.SIGKILL
    wait_until(lambda: not (directory / LAYER).exists(), "the half of a layer is gone")
    put(directory, LAYOUT)
    assert mounted.names() == ["app:1", "import"]


def test_a_disk_that_is_full_in_the_middle(tmp_path: Path, mount: Callable[..., Mounted]) -> None:
    if os.getuid():
        pytest.skip("a small disk needs root")
    with disks.memory(tmp_path / "disk", "12m") as disk:
        mounted = mount("disk/store")
        directory = mounted.drop / "app"
        put(directory, {name: data for name, data in LAYOUT.items() if name != LAYER})
        filler = disks.fill(disk)
        with pytest.raises(OSError, match="No space left on device"):
            write(directory / LAYER, LAYOUT[LAYER])
        with pytest.raises(OSError, match="No space left on device"):
            put(mounted.drop / "other", {"caf\udce9": LAYOUT[LAYER]})
        assert mounted.names() == ["import"]
        assert "No space left" in mounted.report("app")["error"]
        filler.unlink()
        put(directory, {LAYER: LAYOUT[LAYER]})
        assert mounted.names() == ["app:1", "import"]
        assert status(directory) == "loaded"
        shutil.rmtree(directory)
        shutil.rmtree(mounted.drop / "other")
        directories.check(mounted)
        run("fusermount3", "-u", mounted.path)
        wait_until(lambda: is_gone(mounted), "the mount's process has ended")


def test_a_full_disk_when_the_images_are_published(
    tmp_path: Path, mount: Callable[..., Mounted]
) -> None:
    if os.getuid():
        pytest.skip("a small disk needs root")
    with disks.memory(tmp_path / "disk", "12m") as disk:
        mounted = mount("disk/store")
        directory = mounted.drop / "app"
        put(directory, {name: data for name, data in LAYOUT.items() if name != "index.json"})
        filler = disks.fill(disk)
        with pytest.raises(OSError, match="No space left on device"):
            put(directory, {"index.json": LAYOUT["index.json"]})
        assert mounted.names() == ["import"]
        filler.unlink()
        put(directory, {"index.json": LAYOUT["index.json"]})
        assert mounted.names() == ["app:1", "import"]
        run("fusermount3", "-u", mounted.path)
        wait_until(lambda: is_gone(mounted), "the mount's process has ended")


def test_a_directory_that_is_left_is_dropped(mount: Callable[..., Mounted], clock: Clock) -> None:
    """With what it has stored; one that is loaded stays."""
    mounted = mount(options=("-o", "import_expiry=1h"), launcher=clock.launcher)
    put(mounted.drop / "loaded", SMALL)
    put(mounted.drop / "left", {LAYER: LAYOUT[LAYER], "tmp": LARGE})

    def is_dropped() -> bool:
        clock.advance(3600)  # again, since the last file may be released after it is closed
        return "left" not in mounted.names("import")

    wait_until(is_dropped, "it is dropped")
    assert mounted.names("import") == ["loaded"]
    assert status(mounted.drop / "loaded") == "loaded"
    with LocalEngine(mounted.store) as engine:
        layer = archives.digest(LAYOUT[LAYER])
        wait_until(lambda: not engine.leases.holders(layer), "its lease ends")
        list(engine.collector().collect())
    assert not (mounted.store / LAYER).exists()
    assert not list((mounted.store / "ingest").iterdir())
    directories.check(mounted)


def test_an_index_that_changes_while_it_is_read(mounted: Mounted, directory: Path) -> None:
    """A reader has the one or the other, or a part of what is being written: never both mixed."""
    put(directory, SMALL)
    new = SMALL["index.json"] + b" " * 10_000
    reader = os.open(directory / "index.json", os.O_RDONLY)
    assert os.pread(reader, 1 << 20, 0) == SMALL["index.json"]
    write(directory / "temporary", new)
    (directory / "temporary").rename(directory / "index.json")
    assert os.pread(reader, 1 << 20, 0) == SMALL["index.json"]
    os.close(reader)
    assert (directory / "index.json").read_bytes() == new
    assert mounted.names() == ["app:1", "import"]


def test_an_image_that_is_removed_meanwhile(mounted: Mounted) -> None:
    """The receipt of a directory does not outlive its images."""
    put(mounted.drop / "app", LAYOUT)
    run(*IMGFS, "--store", mounted.store, "rm", "app:1")
    run(*IMGFS, "--store", mounted.store, "gc")
    put(mounted.drop / "app", LAYOUT)
    assert mounted.names() == ["app:1", "import"]
    assert (mounted / "app:1" / LAYER).read_bytes() == LAYOUT[LAYER]
    directories.check(mounted)

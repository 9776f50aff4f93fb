"""Directories below `import/`: what a writer finds there, and when its images appear."""

import errno
import fcntl
import json
import os
import random
import shutil
import stat
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from tests import archives, directories
from tests.archives import ImageParts
from tests.directories import blob_path, images, layout, listed, put, status
from tests.mounts import IMGFS, Mounted, run, write
from tests.waiting import wait_until

LARGE = archives.layer("large", os.urandom(400_000))
APP = ImageParts(layers=[LARGE, archives.layer("app")])
OTHER = ImageParts(layers=[LARGE, archives.layer("other")])
LAYOUT = layout((APP, "1"))
BOTH = layout((APP, "1"), (OTHER, "2"))
LAYER = blob_path(archives.compressed(LARGE))
CONFIG = blob_path(APP.config)
MANIFEST = blob_path(APP.manifest(gzipped=True))
DOCUMENTS = ("oci-layout", "index.json")
BLOBS = [name for name in LAYOUT if name not in DOCUMENTS]


def errno_of(call: Callable[..., object], *arguments: object) -> int | None:
    """Return the errno that a call fails with, None if it succeeds."""
    try:
        call(*arguments)
    except OSError as error:
        return error.errno
    return None


def descriptor_of(path: Path, flags: int = os.O_RDWR | os.O_CREAT) -> int:
    return os.open(path, flags, 0o644)


def digest_of(image: Path) -> str:
    """Return the digest of the manifest of an image directory."""
    (entry,) = json.loads((image / "index.json").read_bytes())["manifests"]
    return str(entry["digest"])


def load(mounted: Mounted, files: directories.Files = LAYOUT, name: str = "app") -> Path:
    directory = mounted.drop / name
    put(directory, files)
    return directory


# -- appearing ------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(4))
def test_the_images_appear_with_the_last_file_in_any_order(mounted: Mounted, seed: int) -> None:
    files = list(BOTH.items())
    random.Random(seed).shuffle(files)
    directory = mounted.drop / "app"
    put(directory, dict(files[:-1]))
    assert status(directory) == "loading"
    assert mounted.report("app")["missing"]
    put(directory, dict(files[-1:]))
    assert status(directory) == "loaded"
    assert sorted(images(directory)) == ["docker.io/library/app:1", "docker.io/library/app:2"]
    assert mounted.names() == ["app:1", "app:2", "import"]
    assert digest_of(mounted / "app:1") == archives.digest(APP.manifest(gzipped=True))
    directories.check(mounted)


def test_each_way_to_mount(mounted_each_way: Mounted) -> None:
    directory = load(mounted_each_way)
    assert listed(directory) == LAYOUT
    assert digest_of(mounted_each_way / "app:1") == archives.digest(APP.manifest(gzipped=True))


def test_what_is_missing_is_told(mounted: Mounted) -> None:
    here = ("oci-layout", "index.json", MANIFEST)
    directory = load(mounted, directories.only(LAYOUT, here))
    report = mounted.report("app")
    assert report["status"] == "loading"
    assert sorted(report["missing"]) == sorted(set(LAYOUT) - set(here))
    assert status(directory) == "loading"
    assert mounted.names() == ["import"]
    put(directory, LAYOUT)
    report = mounted.report("app")
    assert (report["status"], report.get("missing")) == ("loaded", None)
    assert report["images"][0]["id"] == APP.id


def test_a_second_index_adds_its_images(mounted: Mounted) -> None:
    directory = load(mounted)
    more = {name: data for name, data in BOTH.items() if name not in LAYOUT}
    put(directory, more)
    put(directory, {"index.json": BOTH["index.json"]})
    assert mounted.names() == ["app:1", "app:2", "import"]
    assert status(directory) == "loaded"
    directories.check(mounted)


def test_an_index_is_rewritten_several_times(mounted: Mounted) -> None:
    empty = archives.to_json({"schemaVersion": 2, "manifests": []})
    directory = load(mounted, {"oci-layout": LAYOUT["oci-layout"], "index.json": empty})
    assert status(directory) in ("loading", "empty")
    for _ in range(3):
        put(directory, {**LAYOUT, "index.json": LAYOUT["index.json"]})
        assert (directory / "index.json").read_bytes() == LAYOUT["index.json"]
    put(directory, BOTH)
    assert mounted.names() == ["app:1", "app:2", "import"]


def test_an_index_is_rewritten_without_being_emptied(mounted: Mounted) -> None:
    """As buildx does it: read, write at the start, cut."""
    directory = load(mounted, BOTH)
    descriptor = descriptor_of(directory / "index.json", os.O_RDWR)
    assert os.read(descriptor, 1 << 20) == BOTH["index.json"]
    os.pwrite(descriptor, LAYOUT["index.json"], 0)
    os.ftruncate(descriptor, len(LAYOUT["index.json"]))
    os.close(descriptor)
    assert (directory / "index.json").read_bytes() == LAYOUT["index.json"]
    assert status(directory) == "loaded"


def test_the_name_of_an_image_without_one_is_the_directory_s(mounted: Mounted) -> None:
    load(mounted, layout((APP, "")), "team")
    load(mounted, layout((OTHER, "")), "other:3")
    assert mounted.names() == ["import", "other:3", "team:latest"]


def test_a_full_name_in_the_index_counts(mounted: Mounted) -> None:
    load(mounted, layout((APP, "ghcr.io/org/x:9")), "app")
    assert digest_of(mounted / "ghcr.io/org/x:9") == archives.digest(APP.manifest(gzipped=True))


@pytest.mark.parametrize("order", [sorted, lambda names: sorted(names, reverse=True)])
def test_an_unpacked_docker_archive(
    mounted: Mounted, order: Callable[[directories.Files], list[str]]
) -> None:
    files = dict(archives.members(archives.docker_archive((APP, ["old:1"]))))
    directory = load(mounted, directories.only(files, order(files)), "unpacked")
    assert mounted.names() == ["import", "old:1"]
    assert status(directory) == "loaded"
    directories.check(mounted)


def test_two_directories_for_one_image(mounted: Mounted) -> None:
    one, two = mounted.drop / "one", mounted.drop / "two"
    for name, data in LAYOUT.items():
        put(one, {name: data})
        put(two, {name: data})
    assert mounted.names() == ["import", "one:1", "two:1"]
    shutil.rmtree(one)
    shutil.rmtree(two)
    assert mounted.names("import") == []
    directories.check(mounted)


def test_a_directory_below_another(mounted: Mounted) -> None:
    load(mounted, LAYOUT, "team/app")
    assert [path.name for path in mounted.path.rglob("app:1")] == ["app:1"]
    assert status(mounted.drop / "team") == "loaded"


# -- removing -------------------------------------------------------------------------------------


def test_rm_takes_no_image_with_it(mounted: Mounted) -> None:
    load(mounted, BOTH)
    run("rm", "-r", mounted.drop / "app")
    assert mounted.names("import") == []
    assert mounted.names() == ["app:1", "app:2", "import"]
    run(*IMGFS, "--store", mounted.store, "gc")
    assert (mounted / "app:1" / LAYER).read_bytes() == LAYOUT[LAYER]
    directories.check(mounted)


def test_rm_of_an_incomplete_directory_leaves_garbage_at_most(mounted: Mounted) -> None:
    directory = load(mounted, directories.only(LAYOUT, [LAYER, CONFIG]))
    write(directory / "blobs/sha256/.partial", b"abc")
    run("rm", "-r", directory)
    run(*IMGFS, "--store", mounted.store, "gc")
    wait_until(lambda: not list((mounted.store / "ingest").iterdir()), "its ingests are gone")
    assert not [path for path in (mounted.store / "blobs").rglob("*") if path.is_file()]
    assert mounted.names() == ["import"]


def test_a_directory_that_is_not_empty_is_not_removed(mounted: Mounted) -> None:
    directory = load(mounted)
    for path in (directory, directory / "blobs", directory / "blobs/sha256"):
        assert errno_of(path.rmdir) == errno.ENOTEMPTY


def test_what_was_loaded_stays_reported_once_it_is_removed(mounted: Mounted) -> None:
    directory = load(mounted)
    before = mounted.report("app")
    assert before["status"] == "loaded"
    run(*IMGFS, "--store", mounted.store, "rm", "app:1")
    assert not directory.exists()
    assert mounted.report("app") == before


def test_a_name_is_used_again(mounted: Mounted) -> None:
    for image in (APP, OTHER):
        directory = load(mounted, layout((image, "1")))
        assert digest_of(mounted / "app:1") == archives.digest(image.manifest(gzipped=True))
        shutil.rmtree(directory)


# -- attributes and calls -------------------------------------------------------------------------


def test_what_was_written_reads_back(mounted: Mounted) -> None:
    directory = load(mounted, BOTH)
    assert listed(directory) == BOTH
    assert os.listdir(directory / "blobs") == ["sha256"]
    for name, data in BOTH.items():
        found = (directory / name).stat()
        assert (found.st_size, stat.S_ISREG(found.st_mode)) == (len(data), True)
    run("diff", "-r", directory, directory)
    assert run("du", "-sb", directory).stdout


def test_a_file_is_read_while_it_is_written(mounted: Mounted) -> None:
    directory = mounted.drop / "app"
    directory.mkdir()
    descriptor = descriptor_of(directory / "temporary")
    os.write(descriptor, b"one, ")
    assert (directory / "temporary").read_bytes() == b"one, "
    os.write(descriptor, b"two")
    assert os.pread(descriptor, 100, 5) == b"two"
    assert os.fstat(descriptor).st_size == 8
    os.close(descriptor)
    with (directory / "temporary").open("ab") as file:
        file.write(b" and three")
    assert (directory / "temporary").read_bytes() == b"one, two and three"


def test_times_modes_owners_and_attributes_are_kept(mounted: Mounted) -> None:
    directory = load(mounted)
    for path in (directory, directory / "blobs", directory / "index.json"):
        path.chmod(0o705)
        os.utime(path, ns=(0, 1_234_567_890_123_456_789))
        os.chown(path, os.getuid(), os.getgid())
        os.setxattr(path, "user.note", b"hi")
        found = path.stat()
        assert stat.S_IMODE(found.st_mode) == 0o705
        assert found.st_mtime_ns == 1_234_567_890_123_456_789
        assert os.getxattr(path, "user.note") == b"hi"
        os.removexattr(path, "user.note")
    assert errno_of(os.setxattr, directory, "user.imgfs.status", b"x") == errno.EPERM
    acl = bytes.fromhex("02000000 01000600ffffffff 04000400ffffffff 20000400ffffffff")
    assert errno_of(os.setxattr, directory, "system.posix_acl_access", acl) == errno.EOPNOTSUPP


@pytest.mark.parametrize("name", [".", "blobs", "index.json"])
def test_locks_and_syncs(mounted: Mounted, name: str) -> None:
    path = load(mounted) / name
    one, other = os.open(path, os.O_RDONLY), os.open(path, os.O_RDONLY)
    try:
        fcntl.flock(one, fcntl.LOCK_EX | fcntl.LOCK_NB)
        assert errno_of(fcntl.flock, other, fcntl.LOCK_EX | fcntl.LOCK_NB) == errno.EAGAIN
        os.fsync(one)
        os.fdatasync(one)
    finally:
        os.close(one)
        os.close(other)


def test_truncation(mounted: Mounted) -> None:
    directory = mounted.drop / "app"
    directory.mkdir()
    file = directory / "file"
    write(file, b"0123456789")
    os.truncate(file, 4)
    assert file.read_bytes() == b"0123"
    os.truncate(file, 6)
    assert file.read_bytes() == b"0123\0\0"
    descriptor = descriptor_of(file, os.O_RDWR | os.O_TRUNC)
    assert os.fstat(descriptor).st_size == 0
    os.pwrite(descriptor, b"x", 3)
    os.ftruncate(descriptor, 5)
    os.close(descriptor)
    assert file.read_bytes() == b"\0\0\0x\0"


def test_a_layer_written_out_of_order(mounted: Mounted) -> None:
    directory = load(mounted, {k: v for k, v in LAYOUT.items() if k != LAYER})
    pieces = [(at, LAYOUT[LAYER][at : at + 7000]) for at in range(0, len(LAYOUT[LAYER]), 7000)]
    random.Random(3).shuffle(pieces)
    descriptor = descriptor_of(directory / LAYER)
    for at, data in pieces:
        os.pwrite(descriptor, data, at)
    os.close(descriptor)
    assert (mounted / "app:1").is_dir()
    assert (mounted / "app:1" / LAYER).read_bytes() == LAYOUT[LAYER]


def test_a_layer_that_was_preallocated(mounted: Mounted) -> None:
    directory = load(mounted, {k: v for k, v in LAYOUT.items() if k != LAYER})
    descriptor = descriptor_of(directory / LAYER)
    os.ftruncate(descriptor, len(LAYOUT[LAYER]) + 100_000)
    os.write(descriptor, LAYOUT[LAYER])
    os.ftruncate(descriptor, len(LAYOUT[LAYER]))
    os.close(descriptor)
    assert (mounted / "app:1").is_dir()


def test_names_move_within_the_directory(mounted: Mounted) -> None:
    directory = mounted.drop / "app"
    temporary = {name: f"later/{number}" for number, name in enumerate(LAYOUT)}
    put(directory, {temporary[name]: data for name, data in LAYOUT.items()})
    (directory / "blobs/sha256").mkdir(parents=True)
    assert status(directory) == "loading"
    for name, held in temporary.items():
        assert mounted.names() == ["import"]
        (directory / held).rename(directory / name)
    assert status(directory) == "loaded"
    assert mounted.names() == ["app:1", "import"]
    assert errno_of(os.rename, directory / "later", directory / "blobs") == errno.ENOTEMPTY
    (directory / "later").rmdir()
    assert listed(directory) == LAYOUT
    directories.check(mounted)


def test_a_directory_is_renamed_before_it_is_whole(mounted: Mounted) -> None:
    directory = load(mounted, directories.only(LAYOUT, BLOBS), ".app.tmp")
    directory.rename(mounted.drop / "app")
    put(mounted.drop / "app", directories.only(LAYOUT, DOCUMENTS))
    assert mounted.names() == ["app:1", "import"]


def test_a_hidden_directory_counts_once_it_is_renamed(mounted: Mounted, tmp_path: Path) -> None:
    put(tmp_path / "layout", layout((APP, "")))
    run("cp", "-r", tmp_path / "layout", mounted.drop / ".new")
    assert (mounted.names(), status(mounted.drop / ".new")) == (["import"], "loading")
    run("mv", mounted.drop / ".new", mounted.drop / ".newer")
    assert mounted.names() == ["import"]
    run("mv", mounted.drop / ".newer", mounted.drop / "app:2")
    assert mounted.names() == ["app:2", "import"]
    assert images(mounted.drop / "app:2") == ["docker.io/library/app:2"]
    directories.check(mounted)


def test_renaming_a_hidden_directory_tells_what_is_wrong(mounted: Mounted) -> None:
    hidden = load(mounted, {**LAYOUT, "index.json": b"["}, ".new")
    with pytest.raises(OSError, match="Bad message"):
        hidden.rename(mounted.drop / "app")
    assert mounted.names("import") == ["app", "app.failed.txt"]
    put(mounted.drop / "app", directories.only(LAYOUT, ["index.json"]))
    assert mounted.names() == ["app:1", "import"]
    assert mounted.names("import") == ["app"]


def test_renaming_a_hidden_directory_publishes_each_layout_that_is_right(mounted: Mounted) -> None:
    broken = {f"a/{name}": data for name, data in {**LAYOUT, "index.json": b"["}.items()}
    hidden = load(mounted, {**broken, **{f"b/{n}": data for n, data in LAYOUT.items()}}, ".two")
    with pytest.raises(OSError, match="Bad message"):
        hidden.rename(mounted.drop / "two")
    assert mounted.names("two") == ["b:1"]


def test_nothing_moves_between_a_directory_and_the_rest(mounted: Mounted) -> None:
    directory, other = load(mounted), load(mounted, BOTH, "other")
    places = [mounted.drop / "x.tar", mounted.path / "x", mounted / "app:1/x"]
    for place in places:
        found = errno_of(os.rename, directory / "index.json", place)
        assert found in (errno.EXDEV, errno.EPERM, errno.EROFS), place
    found = errno_of(os.rename, mounted / "app:1/index.json", directory / "index.json")
    assert found in (errno.EXDEV, errno.EPERM, errno.EROFS)
    assert listed(other) == BOTH


def test_hard_links(mounted: Mounted) -> None:
    """As rsync -H and tar make them."""
    others = [name for name in BLOBS if name != LAYER]
    directory = load(mounted, {"a": LAYOUT[LAYER], **directories.only(LAYOUT, others)})
    os.link(directory / "a", directory / LAYER)
    put(directory, directories.only(LAYOUT, DOCUMENTS))
    assert mounted.names() == ["app:1", "import"]
    (directory / "a").unlink()
    assert (directory / LAYER).read_bytes() == LAYOUT[LAYER]


def test_symlinks_of_an_old_docker_archive(mounted: Mounted) -> None:
    files = dict(archives.members(archives.docker_archive((APP, ["old:1"]))))
    (path,) = [name for name in files if files[name] == LARGE]
    directory = mounted.drop / "old"
    put(directory, {"layer": files.pop(path), **files})
    assert status(directory) == "loading"
    (directory / path).parent.mkdir(exist_ok=True)
    (directory / path).symlink_to("../layer")
    assert os.readlink(directory / path) == "../layer"
    assert mounted.names() == ["import", "old:1"]


def test_several_writers_at_once(mounted: Mounted) -> None:
    errors: list[BaseException] = []

    def writes(name: str, files: dict[str, bytes]) -> None:
        try:
            put(mounted.drop / name, files)
        except BaseException as error:
            errors.append(error)

    shared = [("shared", {name: data}) for name, data in BOTH.items()]
    own = [(f"own{i}", dict(LAYOUT)) for i in range(4)]
    threads = [threading.Thread(target=writes, args=one) for one in [*shared, *own]]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    expected = ["import", *(f"own{i}:1" for i in range(4)), "shared:1", "shared:2"]
    assert mounted.names() == sorted(expected)
    directories.check(mounted)

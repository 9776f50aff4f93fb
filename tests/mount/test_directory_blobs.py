"""Blobs in directories below `import/`: those that the store holds are there already, and those
that come are verified.
"""

import json
import os
import shutil
import stat
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests import archives, directories
from tests.archives import ImageParts
from tests.directories import blob_path, layout, listed, put, status
from tests.local_engine import LocalEngine
from tests.mount.test_resources import figure
from tests.mounts import IMGFS, Mounted, run, write
from tests.waiting import wait_until

LARGE = archives.layer("large", os.urandom(3_000_000))
APP = ImageParts(layers=[LARGE])
NEXT = ImageParts(layers=[LARGE, archives.layer("next")])
LAYOUT = layout((APP, "1"))
NEWER = layout((NEXT, "2"))
LAYER = blob_path(archives.compressed(LARGE))
SHARED = LAYOUT[LAYER]


@pytest.fixture
def app(mounted_each_way: Mounted) -> Mounted:
    """A mount whose store holds `app:1`."""
    mounted_each_way.load(archives.oci_archive((APP, "docker.io/library/app:1"), gzipped=True))
    return mounted_each_way


def blobs(directory: Path) -> list[str]:
    return sorted(os.listdir(directory / "blobs/sha256"))


def put_by_rename(path: Path, data: bytes) -> None:
    temporary = path.with_name(f".{path.name}.tmp")
    write(temporary, data)
    temporary.rename(path)


# -- there already --------------------------------------------------------------------------------


def test_a_stored_blob_is_there_and_not_listed(app: Mounted) -> None:
    directory = app.drop / "new"
    directory.mkdir()
    found = (directory / LAYER).stat()
    assert (found.st_size, stat.S_IMODE(found.st_mode), found.st_mtime) == (len(SHARED), 0o444, 0)
    assert (directory / LAYER).read_bytes() == SHARED
    assert os.listdir(directory) == []
    for name in ("blobs", "blobs/sha256"):
        (directory / name).mkdir()
        assert os.listdir(directory / name) == []
    assert not (directory / "blobs/sha256" / ("0" * 64)).exists()
    assert not (directory / "blobs/sha512" / LAYER[-64:]).exists()
    assert not (directory / "other" / LAYER[-64:]).exists()


def test_only_what_is_missing_is_written(app: Mounted) -> None:
    directory = app.drop / "app"
    more = {name: data for name, data in NEWER.items() if name != LAYER}
    put(directory, more)
    assert app.names() == ["app:1", "app:2", "import"]
    assert status(directory) == "loaded"
    assert sorted(more) == sorted(set(listed(directory)) - {LAYER})
    run(*IMGFS, "--store", app.store, "rm", "app:1")
    run(*IMGFS, "--store", app.store, "gc")
    assert (app / "app:2" / LAYER).read_bytes() == SHARED
    directories.check(app)


def test_what_the_index_refers_to_is_listed(app: Mounted) -> None:
    directory = app.drop / "app"
    put(directory, directories.only(LAYOUT, ["oci-layout", "index.json"]))
    assert app.names() == ["app:1", "import"]
    assert status(directory) == "loaded"
    assert blobs(directory) == sorted(name[-64:] for name in LAYOUT if "blobs" in name)
    assert listed(directory) == LAYOUT


def test_what_was_seen_outlives_a_collection(app: Mounted) -> None:
    directory = app.drop / "app"
    directory.mkdir()
    assert (directory / LAYER).exists()
    run(*IMGFS, "--store", app.store, "rm", "app:1")
    run(*IMGFS, "--store", app.store, "gc")
    put(directory, {name: data for name, data in NEWER.items() if name != LAYER})
    assert app.names() == ["app:2", "import"]
    assert (app / "app:2" / LAYER).read_bytes() == SHARED


def test_what_was_not_seen_is_collected(app: Mounted) -> None:
    (app.drop / "app").mkdir()
    run(*IMGFS, "--store", app.store, "rm", "app:1")
    run(*IMGFS, "--store", app.store, "gc")
    assert not (app.drop / "app" / LAYER).exists()
    put(app.drop / "app", LAYOUT)
    assert app.names() == ["app:1", "import"]


OVERWRITERS: dict[str, Callable[[Path], None]] = {
    "in place": lambda path: write(path, SHARED),
    "by a temporary name": lambda path: put_by_rename(path, SHARED),
    "without emptying it": lambda path: _write_at(path, os.O_RDWR | os.O_CREAT),
    "after a refused O_EXCL": lambda path: _after_unlink(path),
}


def _write_at(path: Path, flags: int) -> None:
    descriptor = os.open(path, flags, 0o600)
    os.write(descriptor, SHARED)
    os.ftruncate(descriptor, len(SHARED))
    os.fchmod(descriptor, 0o644)
    os.close(descriptor)


def _after_unlink(path: Path) -> None:
    """As tar does it."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL
    try:
        _write_at(path, flags)
    except FileExistsError:
        path.unlink()
        _write_at(path, flags)


@pytest.mark.parametrize("overwrite", OVERWRITERS.values(), ids=list(OVERWRITERS))
def test_a_stored_blob_is_written_again(app: Mounted, overwrite: Callable[[Path], None]) -> None:
    directory = app.drop / "app"
    (directory / "blobs/sha256").mkdir(parents=True)
    overwrite(directory / LAYER)
    assert (directory / LAYER).read_bytes() == SHARED
    put(directory, {name: data for name, data in NEWER.items() if name != LAYER})
    assert app.names() == ["app:1", "app:2", "import"]
    directories.check(app)


def test_what_is_there_is_not_written_to_the_disk_again(app: Mounted) -> None:
    before = figure(app.pid, "io", "wchar")
    directory = app.drop / "app"
    (directory / "blobs/sha256").mkdir(parents=True)
    write(directory / LAYER, SHARED)
    assert figure(app.pid, "io", "wchar") - before < len(SHARED) / 2


def test_other_bytes_over_a_stored_blob_are_refused(app: Mounted) -> None:
    directory = app.drop / "app"
    (directory / "blobs/sha256").mkdir(parents=True)
    wrong = SHARED[:-1] + b"x"
    with pytest.raises(OSError, match="Input/output error"):
        write(directory / LAYER, wrong)
    with pytest.raises(OSError, match=r"Input/output error|not permitted"):
        put_by_rename(directory / LAYER, wrong)
    assert (directory / LAYER).read_bytes() == SHARED
    assert (app / "app:1" / LAYER).read_bytes() == SHARED
    directories.check(app)


def test_a_stored_blob_keeps_its_attributes(app: Mounted) -> None:
    blob = app.drop / "app" / LAYER
    (blob.parent).mkdir(parents=True)
    blob.chmod(0o600)
    os.utime(blob, (1, 1))
    found = blob.stat()
    assert (stat.S_IMODE(found.st_mode), found.st_mtime) == (0o444, 0)
    assert (app / "app:1" / LAYER).stat().st_mtime != 1


def test_removing_a_stored_blob_removes_nothing_of_the_store(app: Mounted) -> None:
    directory = app.drop / "app"
    put(directory, {name: data for name, data in NEWER.items() if name != LAYER})
    (directory / LAYER).unlink()
    assert (app / "app:1" / LAYER).read_bytes() == SHARED
    shutil.rmtree(directory)
    run(*IMGFS, "--store", app.store, "gc")
    assert (app / "app:2" / LAYER).read_bytes() == SHARED


# -- verified -------------------------------------------------------------------------------------


def ingests(mounted: Mounted) -> list[Path]:
    return list((mounted.store / "ingest").iterdir())


def test_a_wrong_blob_is_refused_when_it_is_closed_and_is_gone(mounted: Mounted) -> None:
    directory = mounted.drop / "app"
    (directory / "blobs/sha256").mkdir(parents=True)
    with pytest.raises(OSError, match="Input/output error"):
        write(directory / LAYER, SHARED[:-1])
    assert not (directory / LAYER).exists()
    assert blobs(directory) == []
    assert status(directory).startswith("failed: ")
    report = mounted.report("app")
    assert report["status"] == "failed"
    assert LAYER[-64:] in report["error"]
    assert (mounted.drop / "app.failed.txt").read_text().startswith("app was not loaded: ")
    put(directory, LAYOUT)
    assert status(directory) == "loaded"
    assert mounted.names() == ["app:1", "import"]
    assert mounted.names("import") == ["app"]
    events = (mounted.path / ".imgfs" / "events").read_bytes()
    assert events.count(b'"Action":"load-failed"') == 1


def test_a_wrong_blob_is_refused_when_it_gets_its_name(mounted: Mounted) -> None:
    directory = mounted.drop / "app"
    put(directory, {"blobs/sha256/.tmp": SHARED[::-1], "tmp": b"not the layer"})
    for name in ("blobs/sha256/.tmp", "tmp"):
        with pytest.raises(OSError, match="Input/output error"):
            (directory / name).rename(directory / LAYER)
        assert not (directory / LAYER).exists()
    put(directory, LAYOUT)
    assert mounted.names() == ["app:1", "import"]


def test_a_link_to_a_wrong_blob_is_refused(mounted: Mounted) -> None:
    directory = mounted.drop / "app"
    put(directory, {"tmp": b"not the layer", "blobs/sha256/x": b""})
    with pytest.raises(OSError, match="Input/output error"):
        os.link(directory / "tmp", directory / LAYER)
    assert not (directory / LAYER).exists()


def test_an_index_that_is_no_json_is_told_when_it_is_closed(mounted: Mounted) -> None:
    directory = mounted.drop / "app"
    put(directory, {name: data for name, data in LAYOUT.items() if name != "index.json"})
    with pytest.raises(OSError, match="Bad message"):
        write(directory / "index.json", b'{"manifests": [')
    assert mounted.names() == ["import"]
    put(directory, {"index.json": LAYOUT["index.json"]})
    assert mounted.names() == ["app:1", "import"]


def test_a_layer_whose_diff_id_is_wrong_is_told_by_what_completes_it(mounted: Mounted) -> None:
    wrong = ImageParts(
        layers=APP.layers, extra={"rootfs": {"type": "layers", "diff_ids": ["sha256:" + "0" * 64]}}
    )
    files = layout((wrong, "1"))
    *first, last = files.items()
    put(mounted.drop / "app", dict(first))
    with pytest.raises(OSError, match="Input/output error"):
        put(mounted.drop / "app", dict([last]))
    assert mounted.names() == ["import"]
    assert "0" * 64 in mounted.report("app")["error"]


def test_a_size_that_the_manifest_denies(mounted: Mounted) -> None:
    manifest = json.loads(APP.manifest(gzipped=True))
    manifest["layers"][0]["size"] += 1
    data = archives.to_json(manifest)
    entry = archives.descriptor(data, archives.OCI_MANIFEST)
    files = dict(archives.oci_members([entry], [data, *APP.blobs(gzipped=True)]))
    with pytest.raises(OSError, match=r"Input/output error|Bad message"):
        put(mounted.drop / "app", files)
    assert mounted.names() == ["import"]


def test_several_handles_of_one_blob(mounted: Mounted) -> None:
    """What one of them closes is not judged while another still writes."""
    directory = mounted.drop / "app"
    (directory / "blobs/sha256").mkdir(parents=True)
    one = os.open(directory / LAYER, os.O_WRONLY | os.O_CREAT, 0o600)
    two = os.open(directory / LAYER, os.O_WRONLY)
    half = len(SHARED) // 2
    os.pwrite(two, SHARED[half:], half)
    os.pwrite(one, SHARED[:half], 0)
    os.close(two)
    os.close(one)
    assert (directory / LAYER).read_bytes() == SHARED


def test_a_blob_that_is_completed_by_a_second_open(mounted: Mounted) -> None:
    """As restic restores it: preallocated, closed with a part in it, opened again."""
    directory = mounted.drop / "app"
    put(directory, {name: data for name, data in LAYOUT.items() if name != LAYER})
    half = len(SHARED) // 2
    for flags, part in (
        (os.O_WRONLY | os.O_CREAT | os.O_TRUNC, (half, len(SHARED))),
        (os.O_WRONLY, (0, half)),
    ):
        descriptor = os.open(directory / LAYER, flags, 0o600)
        if flags & os.O_CREAT:
            os.ftruncate(descriptor, len(SHARED))
        os.pwrite(descriptor, SHARED[slice(*part)], part[0])
        os.close(descriptor)
    assert mounted.names() == ["app:1", "import"]


@pytest.mark.parametrize("place", [write, put_by_rename])
def test_a_blob_without_bytes(mounted: Mounted, place: Callable[[Path, bytes], None]) -> None:
    layer = archives.descriptor(b"", "application/octet-stream")
    config = archives.descriptor(b"{}", "application/vnd.oci.empty.v1+json")
    manifest = archives.to_json({"schemaVersion": 2, "config": config, "layers": [layer]})
    entry = archives.descriptor(
        manifest, archives.OCI_MANIFEST, annotations={directories.REF_NAME: "1"}
    )
    directory = mounted.drop / "app"
    put(directory, dict(archives.oci_members([entry], [b"{}", manifest])))
    assert status(directory) == "loading"
    place(directory / blob_path(b""), b"")
    assert status(directory) == "loaded"
    assert mounted.names() == ["app:1", "import"]


def test_a_file_that_is_open_can_be_read_and_synced_after_a_close(mounted: Mounted) -> None:
    directory = mounted.drop / "app"
    (directory / LAYER).parent.mkdir(parents=True)
    descriptor = os.open(directory / LAYER, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        os.write(descriptor, SHARED)
        os.close(os.dup(descriptor))
        assert os.pread(descriptor, len(SHARED), 0) == SHARED
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def test_a_shell_writes_over_a_document(mounted: Mounted) -> None:
    """It opens the file, and closes a duplicate before the program writes."""
    directory = mounted.drop / "app"
    put(directory, LAYOUT)
    shell = ["sh", "-c", "cat > index.json"]
    subprocess.run(shell, cwd=directory, input=LAYOUT["index.json"], check=True)
    assert status(directory) == "loaded"
    assert (directory / "index.json").read_bytes() == LAYOUT["index.json"]
    events = (mounted.path / ".imgfs" / "events").read_bytes()
    assert b'"Action":"load-failed"' not in events
    with pytest.raises(OSError, match="Bad message"):
        (directory / "index.json").write_bytes(b"")


def test_a_shell_writes_the_last_file_of_an_unpacked_docker_archive(mounted: Mounted) -> None:
    files = dict(archives.members(archives.docker_archive((APP, ["app:1"]))))
    last = next(name for name, data in files.items() if data == LARGE)
    directory = mounted.drop / "app"
    put(directory, {name: data for name, data in files.items() if name != last})
    (directory / last).parent.mkdir()
    subprocess.run(["sh", "-c", f"cat > {last}"], cwd=directory, input=LARGE, check=True)
    assert status(directory) == "loaded"
    assert b'"Action":"load-failed"' not in (mounted.path / ".imgfs" / "events").read_bytes()


def test_nothing_is_written_twice_and_memory_is_flat(mounted: Mounted) -> None:
    layer = archives.layer("big", os.urandom(1 << 20) * 100)
    image = ImageParts(layers=[layer])
    files = dict(archives.members(archives.oci_archive((image, "docker.io/library/big:1"))))
    put(mounted.drop / "big", files)
    assert (mounted / "big:1").is_dir()
    assert figure(mounted.pid, "status", "VmHWM") < 110_000
    assert figure(mounted.pid, "io", "wchar") < 1.05 * sum(map(len, files.values()))


def test_an_ingest_and_a_lease_end_with_the_directory(mounted: Mounted) -> None:
    directory = mounted.drop / "app"
    put(directory, directories.only(LAYOUT, [LAYER]))
    with LocalEngine(mounted.store) as engine:
        assert engine.database.read("SELECT * FROM lease_resources")
        shutil.rmtree(directory)
        leased = "SELECT * FROM lease_resources"
        wait_until(lambda: engine.database.read(leased) == [], "the lease ends")
        list(engine.collector().collect())
        assert engine.database.read("SELECT * FROM blobs") == []
    assert ingests(mounted) == []

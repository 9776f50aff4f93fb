"""Writers that are not here, replayed call by call into a directory of `import/`."""

import errno
import fcntl
import itertools
import json
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from tests import archives, directories
from tests.archives import ImageParts
from tests.directories import REF_NAME, layout, status
from tests.mounts import Mounted

BASE = archives.layer("base", os.urandom(500_000))
APP = ImageParts(layers=[BASE, archives.layer("app")])
NEXT = ImageParts(layers=[BASE, archives.layer("next")])
EMPTY: dict[str, Any] = {"schemaVersion": 2, "mediaType": archives.OCI_INDEX, "manifests": []}
OCI_LAYOUT = archives.to_json({"imageLayoutVersion": "1.0.0"})
NUMBERS = itertools.count(1_000_000_001)

Written = list[str]
"""The digests of blobs that a writer has not skipped."""


def blob_of(root: Path, data: bytes) -> Path:
    return root / directories.blob_path(data)


def entry_of(image: ImageParts, **annotations: str) -> dict[str, Any]:
    manifest = image.manifest(gzipped=True)
    more = {"annotations": annotations} if annotations else {}
    return archives.descriptor(manifest, archives.OCI_MANIFEST, **more)


def write_file(path: Path, data: bytes, mode: int = 0o666) -> None:
    """As Go's os.WriteFile: in place, emptied first."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode)
    try:
        os.write(descriptor, data)
    finally:
        os.close(descriptor)


def create_temporary(directory: Path, prefix: str, suffix: str = "") -> tuple[int, Path]:
    """As Go's os.CreateTemp."""
    path = directory / f"{prefix}{next(NUMBERS)}{suffix}"
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600), path


def write_all(descriptor: int, data: bytes, block: int = 32 << 10) -> None:
    for offset in range(0, len(data), block):
        os.write(descriptor, data[offset : offset + block])


def make_all(path: Path) -> None:
    """As Go's os.MkdirAll: nothing is asked of a directory that is there."""
    with suppress(FileNotFoundError):
        if path.stat():
            return
    make_all(path.parent)
    with suppress(FileExistsError):
        path.mkdir()


def read_index(root: Path) -> dict[str, Any]:
    index: dict[str, Any] = json.loads((root / "index.json").read_bytes())
    return index


# -- crane pull --format=oci ----------------------------------------------------------------------


def crane(root: Path, image: ImageParts, tag: str) -> Written:
    """An index without manifests first; layers by temporary names that begin with their digests,
    documents in place; the index at the end, in place.
    """
    written: Written = []
    if not (root / "index.json").exists():
        make_all(root)
        write_file(root / "oci-layout", OCI_LAYOUT, 0o777)
        write_file(root / "index.json", archives.to_json(EMPTY), 0o777)
    for layer in map(archives.compressed, image.layers):
        path = blob_of(root, layer)
        make_all(path.parent)
        with suppress(FileNotFoundError):
            if path.stat().st_size == len(layer):
                continue
        descriptor, temporary = create_temporary(path.parent, path.name)
        write_all(descriptor, layer)
        os.close(descriptor)
        temporary.rename(path)
        with pytest.raises(FileNotFoundError):
            temporary.unlink()
        written.append(archives.digest(layer))
    for document in (image.config, image.manifest(gzipped=True)):
        path = blob_of(root, document)
        if not path.exists():
            write_file(path, document)
            written.append(archives.digest(document))
    index = read_index(root)
    index["manifests"].append(entry_of(image, **{REF_NAME: tag}))
    write_file(root / "index.json", archives.to_json(index), 0o777)
    return written


# -- regctl image copy ----------------------------------------------------------------------------


def regctl(root: Path, image: ImageParts, tag: str) -> Written:
    """Everything by `*.tmp`; a blob is there if it can be opened; the manifest is written again.
    At the end what nothing refers to is removed.
    """
    written: Written = []
    for blob in (*map(archives.compressed, image.layers), image.config):
        path = blob_of(root, blob)
        try:
            os.close(os.open(path, os.O_RDONLY))
        except FileNotFoundError:
            _regctl_init(root)
            _regctl_put(path, blob, "")
            written.append(archives.digest(blob))
    _regctl_init(root)
    manifest = image.manifest(gzipped=True)
    path = blob_of(root, manifest)
    _regctl_put(path, manifest, f"{path.name}.")
    try:
        index = read_index(root)
    except FileNotFoundError:
        index = dict(EMPTY)
    others = [one for one in index["manifests"] if one["annotations"][REF_NAME] != tag]
    index["manifests"] = [*others, entry_of(image, **{REF_NAME: tag})]
    marker = os.open(root / "oci-layout", os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o666)
    os.write(marker, OCI_LAYOUT)
    descriptor, temporary = create_temporary(root, "index.json.", ".tmp")
    os.write(descriptor, archives.to_json(index))
    os.close(descriptor)
    temporary.rename(root / "index.json")
    os.close(marker)
    _regctl_collect(root)
    return written


def _regctl_init(root: Path) -> None:
    if not (root / "oci-layout").exists():
        make_all(root)
        write_file(root / "oci-layout", OCI_LAYOUT)


def _regctl_put(path: Path, blob: bytes, prefix: str) -> None:
    make_all(path.parent)
    descriptor, temporary = create_temporary(path.parent, prefix, ".tmp")
    write_all(descriptor, blob)
    os.close(descriptor)
    temporary.rename(path)


def _regctl_collect(root: Path) -> None:
    kept: set[str] = set()
    for entry in read_index(root)["manifests"]:
        path = root / "blobs" / entry["digest"].replace(":", "/")
        manifest = json.loads(path.read_bytes())
        parts = [entry, manifest["config"], *manifest["layers"]]
        kept.update(part["digest"].partition(":")[2] for part in parts)
    for algorithm in os.listdir(root / "blobs"):
        for name in os.listdir(root / "blobs" / algorithm):
            if name not in kept:
                (root / "blobs" / algorithm / name).unlink()


# -- oras copy --to-oci-layout --------------------------------------------------------------------


def oras(root: Path, image: ImageParts, tag: str) -> Written:
    """Blobs by `ingest/`, made read-only before the rename; the index in place, with the manifest
    once without a name and then with it.
    """
    written: Written = []
    make_all(root / "blobs")
    if not (root / "oci-layout").exists():
        write_file(root / "oci-layout", OCI_LAYOUT)
    if not (root / "index.json").exists():
        write_file(root / "index.json", archives.to_json(EMPTY))
    index = read_index(root)
    layers = map(archives.compressed, image.layers)
    for blob in (*layers, image.config, image.manifest(gzipped=True)):
        path = blob_of(root, blob)
        if path.exists():
            continue
        make_all(path.parent)
        make_all(root / "ingest")
        descriptor, temporary = create_temporary(root / "ingest", f"{path.name}_")
        write_all(descriptor, blob, 1 << 20)
        os.close(descriptor)
        temporary.chmod(0o444)
        temporary.rename(path)
        written.append(archives.digest(blob))
    tagged = entry_of(image, **{REF_NAME: tag})
    for entry in (entry_of(image), tagged):
        new = {**index, "manifests": [*index["manifests"], entry]}
        write_file(root / "index.json", archives.to_json(new))
    return written


# -- buildx build -o type=oci,tar=false -----------------------------------------------------------


def buildx(root: Path, image: ImageParts, tag: str) -> Written:
    """containerd's content store, and an index that is rewritten under a lock without being emptied
    first.
    """
    written: Written = []
    make_all(root)
    _check_fsverity(root)
    layers = map(archives.compressed, image.layers)
    for blob in (*layers, image.config, image.manifest(gzipped=True)):
        path = blob_of(root, blob)
        if path.exists():
            continue
        ingest = root / "ingest" / archives.digest(path.name.encode())[7:]
        make_all(root / "ingest")
        ingest.mkdir(0o755)
        write_file(ingest / "ref", path.name.encode())
        for name in ("startedat", "updatedat"):
            descriptor, temporary = create_temporary(ingest, f".tmp-{name}")
            os.write(descriptor, b"2026-01-01T00:00:00Z")
            os.fsync(descriptor)
            temporary.chmod(0o666)
            os.close(descriptor)
            temporary.rename(ingest / name)
        write_file(ingest / "total", str(len(blob)).encode())
        descriptor = os.open(ingest / "data", os.O_WRONLY | os.O_CREAT, 0o666)
        os.lseek(descriptor, 0, os.SEEK_SET)
        write_all(descriptor, blob)
        os.fsync(descriptor)
        assert os.fstat(descriptor).st_size == len(blob)
        os.close(descriptor)
        make_all(path.parent)
        assert not path.exists()
        (ingest / "data").rename(path)
        os.utime(path)
        shutil.rmtree(ingest)
        path.chmod(0o444)
        written.append(archives.digest(blob))
    with _locked(root / "index.json.lock"):
        write_file(root / "oci-layout", OCI_LAYOUT, 0o644)
        descriptor = os.open(root / "index.json", os.O_RDWR | os.O_CREAT, 0o644)
        index = json.loads(os.read(descriptor, 1 << 20) or archives.to_json(EMPTY))
        index["manifests"].append(entry_of(image, **{REF_NAME: tag}))
        data = archives.to_json(index)
        os.pwrite(descriptor, data, 0)
        os.ftruncate(descriptor, len(data))
        os.close(descriptor)
    return written


def _check_fsverity(root: Path) -> None:
    directory = root / f".fsverity-check-{next(NUMBERS)}"
    directory.mkdir(0o700)
    write_file(directory / "supported", b"")
    descriptor = os.open(directory / "supported", os.O_RDONLY)
    with pytest.raises(OSError, match=r"Inappropriate|not supported|Function not"):
        fcntl.ioctl(descriptor, 0x40806685, bytes(128))
    os.close(descriptor)
    shutil.rmtree(directory)


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    try:
        yield
    finally:
        fcntl.flock(descriptor, fcntl.LOCK_UN)
        os.close(descriptor)
        path.unlink()


# -- umoci and skopeo, where their calls are strict -----------------------------------------------


def umoci(root: Path, image: ImageParts, tag: str) -> Written:
    """Every directory is made, and none of them may be there; a directory is locked."""
    written: Written = []
    if not root.exists():
        for directory in (root, root / "blobs", root / "blobs/sha256"):
            directory.mkdir(0o755)
        index = os.open(root / "index.json", os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o666)
        os.write(index, archives.to_json(EMPTY))
        marker = os.open(root / "oci-layout", os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o666)
        os.write(marker, OCI_LAYOUT)
        os.close(marker)
        os.close(index)
    work = root / f".umoci-{next(NUMBERS)}"
    work.mkdir(0o700)
    lock = os.open(work, os.O_RDONLY)
    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    layers = map(archives.compressed, image.layers)
    for blob in (*layers, image.config, image.manifest(gzipped=True)):
        descriptor, temporary = create_temporary(work, "blob-")
        write_all(descriptor, blob)
        os.close(descriptor)
        temporary.rename(blob_of(root, blob))
        written.append(archives.digest(blob))
    manifests = [*read_index(root)["manifests"], entry_of(image, **{REF_NAME: tag})]
    descriptor, temporary = create_temporary(work, "index-")
    os.write(descriptor, archives.to_json({**EMPTY, "manifests": manifests}))
    os.close(descriptor)
    temporary.rename(root / "index.json")
    fcntl.flock(lock, fcntl.LOCK_UN)
    os.close(lock)
    with pytest.raises(OSError, match="directory") as refused:
        os.unlink(work)
    assert refused.value.errno in (errno.EISDIR, errno.EPERM)
    work.rmdir()
    return written


def skopeo(root: Path, image: ImageParts, tag: str) -> Written:
    """A blob is looked for before `blobs/sha256` is made; temporary files in the root, synced; the
    config by a rename and the manifest in place, be they there or not.
    """
    written: Written = []
    make_all(root / "blobs")
    for blob in (*map(archives.compressed, image.layers), image.config):
        path = blob_of(root, blob)
        if blob != image.config and path.exists():
            continue
        descriptor, temporary = create_temporary(root, "oci-put-blob")
        write_all(descriptor, blob)
        os.fsync(descriptor)
        os.fchmod(descriptor, 0o644)
        make_all(path.parent)
        os.close(descriptor)
        temporary.rename(path)
        written.append(archives.digest(blob))
    manifest = image.manifest(gzipped=True)
    write_file(blob_of(root, manifest), manifest, 0o644)
    index = read_index(root) if (root / "index.json").exists() else dict(EMPTY)
    others = [one for one in index["manifests"] if one["annotations"][REF_NAME] != tag]
    index["manifests"] = [*others, entry_of(image, **{REF_NAME: tag})]
    write_file(root / "oci-layout", OCI_LAYOUT, 0o644)
    write_file(root / "index.json", archives.to_json(index), 0o644)
    return written


WRITERS: dict[str, Callable[[Path, ImageParts, str], Written]] = {
    "crane": crane,
    "regctl": regctl,
    "oras": oras,
    "buildx": buildx,
    "umoci": umoci,
    "skopeo": skopeo,
}
SKIPPING = [name for name in WRITERS if name != "umoci"]
SHARED = archives.digest(archives.compressed(BASE))


@pytest.mark.parametrize("name", WRITERS)
def test_a_first_and_a_second_tag_by(name: str, mounted: Mounted) -> None:
    directory = mounted.drop / "app"
    assert SHARED in WRITERS[name](directory, APP, "1")
    assert mounted.names() == ["app:1", "import"]
    assert (SHARED in WRITERS[name](directory, NEXT, "2")) == (name not in SKIPPING)
    assert mounted.names() == ["app:1", "app:2", "import"]
    assert status(directory) == "loaded"
    assert "missing" not in mounted.report("app")
    found = {entry["annotations"][REF_NAME] for entry in read_index(directory)["manifests"]}
    assert found == {"1", "2"}
    shutil.rmtree(directory)
    directories.check(mounted)


@pytest.mark.parametrize("name", WRITERS)
def test_what_the_store_holds_is_skipped_by(name: str, mounted: Mounted) -> None:
    mounted.load(archives.oci_archive((APP, "docker.io/library/app:1"), gzipped=True))
    if name == "regctl":  # it looks for blobs before it makes the directory
        (mounted.drop / "app").mkdir()
    written = WRITERS[name](mounted.drop / "app", NEXT, "2")
    assert (SHARED in written) == (name not in SKIPPING)
    assert mounted.names() == ["app:1", "app:2", "import"]
    directories.check(mounted)


@pytest.mark.parametrize("name", WRITERS)
def test_the_same_image_again_by(name: str, mounted: Mounted) -> None:
    mounted.load(archives.oci_archive((APP, "docker.io/library/app:1"), gzipped=True))
    for _ in range(2):
        WRITERS[name](mounted.drop / "app", APP, "1")
        assert mounted.names() == ["app:1", "import"]
    assert status(mounted.drop / "app") == "loaded"
    directories.check(mounted)


@pytest.mark.parametrize("first", WRITERS)
def test_each_writer_adds_to_what_another_has_written(first: str, mounted: Mounted) -> None:
    directory = mounted.drop / "app"
    WRITERS[first](directory, APP, "first")
    for number, name in enumerate(WRITERS):
        WRITERS[name](directory, NEXT, f"n{number}")
    added = [f"app:n{number}" for number in range(len(WRITERS))]
    assert mounted.names() == sorted(["app:first", "import", *added])
    directories.check(mounted)


@pytest.mark.parametrize("name", WRITERS)
def test_on_a_disk_a_layout_is_written_by(name: str, tmp_path: Path) -> None:
    """The replays themselves, on a disk: they write what the layout of the two images is."""
    for image, tag in ((APP, "1"), (NEXT, "2")):
        WRITERS[name](tmp_path / "app", image, tag)
    both = {name for name in layout((APP, "1"), (NEXT, "2")) if name.startswith("blobs/")}
    found = directories.listed(tmp_path / "app")
    assert {name for name in found if name.startswith("blobs/")} == both
    assert {"index.json", "oci-layout"} <= set(found)

"""Operations on a store, and its content without times, read independently of them."""

import shutil
from collections.abc import Callable
from pathlib import Path

from engine.commit.source import CommitOptions, PlatformSource, Ref, Source
from engine.layouts import combined, selection
from tests import archives
from tests.archives import ImageParts
from tests.local_engine import LocalEngine

BASE = archives.oci_archive(
    (ImageParts(layers=[archives.layer("base", b"b" * 100_000)]), "docker.io/library/base:1"),
    gzipped=False,
)
APP = archives.oci_archive(
    (
        ImageParts(
            layers=[archives.layer("base", b"b" * 100_000), archives.layer("app", b"a" * 150_000)]
        ),
        "docker.io/library/app:1",
    )
)
"""An archive that shares a layer with the base; another layer is too large to be kept in memory."""


def load(engine: LocalEngine, archive: bytes = APP) -> None:
    with engine.begin_import() as session:
        for offset in range(0, len(archive), 64 << 10):
            session.feed(archive[offset : offset + (64 << 10)])
        session.finish()


def commit(engine: LocalEngine) -> None:
    """Commit the directory `rootfs` as an image."""
    options = CommitOptions(created="2024-01-02T03:04:05Z")
    directory = Path(__file__).parent / "rootfs"
    ref = Ref(directory, description="test", created=options.created)
    engine.commit(
        Source((PlatformSource(None, ref),), "base:1"), ("docker.io/library/made:1",), options
    )


def tag(engine: LocalEngine) -> None:
    engine.tag("base:1", "base:2")


def remove(engine: LocalEngine) -> None:
    engine.remove("base:1")


def save(engine: LocalEngine) -> None:
    written: list[bytes] = []
    images = engine.find("base:1")
    engine.write(images, combined.Options(fallback=selection.any_complete), written.append)
    assert written


def collect(engine: LocalEngine) -> None:
    list(engine.collector().collect())


OPERATIONS: dict[str, Callable[[LocalEngine], None]] = {
    "load": load,
    "commit": commit,
    "tag": tag,
    "remove": remove,
    "save": save,
    "collect": collect,
}


def listed(engine: LocalEngine) -> object:
    """Return every image with its summary, and every blob with its recorded size and labels.

    Each must be complete.
    """
    images = engine.images.all()
    blobs = list(engine.content.walk())
    assert all(engine.content.exists(blob.digest) for blob in blobs)
    targets = {image.target.digest for image in images}
    return (
        [(image.name, image.target.digest) for image in images],
        [engine.images.summary(target) for target in sorted(targets)],
        [(blob.digest, blob.size, dict(blob.labels)) for blob in blobs],
    )


def leftovers(engine: LocalEngine) -> list[str]:
    """Return the files and rows that nothing refers to."""
    ingests = [path.name for path in (engine.path / "ingest").iterdir()]
    holders = [path.name for path in (engine.path / "leases").iterdir()]
    files = [str(digest) for digest, _ in engine.content.rowless()]
    leases = [lease.id for lease in engine.leases.list()]
    known = {"blobs", "ingest", "leases", "version", "imgfs.db", "imgfs.db-wal", "imgfs.db-shm"}
    known |= {"names.lock", "reserve", "layers"}
    tables = [
        str(found.path)
        for found in engine.store.tables.files()
        if found.digest is None or not engine.content.sizes([found.digest])
    ]
    others = [path.name for path in engine.path.iterdir() if path.name not in known]
    return [*ingests, *holders, *files, *leases, *tables, *others]


def copied(template: Path, to: Path) -> Path:
    """Copy a closed store; return the path of the copy."""
    shutil.rmtree(to, ignore_errors=True)
    shutil.copytree(template, to)
    return to

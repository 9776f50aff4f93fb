"""Checks of a store after any interruption: by the engine, by fsck, and by hashing the files
without either.
"""

import hashlib
import json
import os
import tarfile
from dataclasses import dataclass
from pathlib import Path

from tests.crash.operations import Names, Operation, Place
from tests.local_engine import LocalEngine

_CONTENT = {"blobs", "imgfs.db", "ingest", "leases", "version"}


@dataclass(frozen=True)
class Judge:
    """Checks after an operation; `before` and `after` are the images without it and after its
    success, and the layouts what `check_layout` returns then.
    """

    operation: Operation
    before: Names
    after: Names
    layout_before: frozenset[str] | None
    layout_after: frozenset[str] | None

    def judge_killed(self, place: Place, is_done: bool) -> None:
        """Check as `judge` does, after a kill, which loses nothing that was written."""
        if place.output.exists():
            check_archive(place.output)
        self.judge(place, is_done)

    def judge(self, place: Place, is_done: bool) -> None:
        """Check the interrupted store, collect garbage, and repeat the operation; `is_done` states
        that it had reported its success.
        """
        layout = check_layout(place.layout)
        assert layout == self.layout_after or (layout == self.layout_before and not is_done)
        found = examine(place.store)
        assert found == self.after or (found == self.before and not is_done)
        expected = self.operation.again if found == self.after != self.before else 0
        assert self.operation.run(place) == expected
        assert examine(place.store) == self.after
        assert check_layout(place.layout) == self.layout_after
        assert not list(place.layout.glob(".imgfs-*"))


def judge_of(operation: Operation, place: Place, root: Path) -> Judge:
    """Return the judge of an operation, which is done once without interruption in a copy of the
    place.
    """
    before = place.names() if operation.stocked else {}
    layout_before = check_layout(place.layout)
    done = place.copy(root)
    assert operation.run(done) == 0
    return Judge(operation, before, done.names(), layout_before, check_layout(done.layout))


def examine(store: Path) -> Names:
    """Check that every image is complete and that a collection removes whatever else is there;
    return the images.
    """
    with LocalEngine(store) as engine:
        listed = _names(engine)
        check_images(engine)
        list(engine.collector().collect())
        assert _names(engine) == listed
        check_collected(engine)
    found = set(os.listdir(store)) - {"names.lock", "reserve", "layers"}
    assert found == _CONTENT, found ^ _CONTENT
    return listed


def check_images(engine: LocalEngine) -> None:
    for image in engine.images.all():
        summary = engine.images.summary(image.target.digest)
        graph = engine.graph(image)
        assert (graph.missing, summary.missing) == ((), ())
        assert {blob.digest for blob in graph.blobs} == set(summary.blobs)
    for blob in engine.blobs_of(engine.images.all()):
        assert file_digest(engine.path, blob) == blob
    assert [problem for problem in engine.check() if not problem.kind.is_rubbish] == []


def check_collected(engine: LocalEngine) -> None:
    """Check that the store has what its images need, and nothing else."""
    needed = {str(digest) for digest in engine.blobs_of(engine.images.all())}
    assert {str(info.digest) for info in engine.content.walk()} == needed
    assert engine.leases.list() == engine.leases.ended() == []
    root = engine.path
    tables = {found.path: found.digest for found in engine.store.tables.files()}
    assert set(tables.values()) <= needed
    files = {path for path in root.rglob("*") if path.is_file() and path.parent != root}
    files -= tables.keys()
    assert files == {_file(root, blob) for blob in needed}
    assert os.listdir(root / "ingest") == []


def check_archive(path: Path) -> None:
    """Check that a saved archive is complete."""
    with tarfile.open(path) as archive:
        names = set(archive.getnames())
        assert {"index.json", "oci-layout"} <= names
        for member in archive:
            if member.isfile() and member.name.startswith("blobs/sha256/"):
                data = archive.extractfile(member)
                assert data is not None
                assert member.name == f"blobs/sha256/{hashlib.sha256(data.read()).hexdigest()}"


def check_layout(path: Path) -> frozenset[str] | None:
    """Check that every blob of a layout is what its name says, and that all are there that its
    index needs; return the names of its images, None if there is no index.
    """
    blobs = {f"sha256:{blob.name}": blob.read_bytes() for blob in path.glob("blobs/sha256/*")}
    for name, data in blobs.items():
        assert name == f"sha256:{hashlib.sha256(data).hexdigest()}"
    if not (path / "index.json").exists():
        return None
    assert json.loads((path / "oci-layout").read_bytes()) == {"imageLayoutVersion": "1.0.0"}
    entries = json.loads((path / "index.json").read_bytes())["manifests"]
    for entry in entries:
        manifest = json.loads(blobs[entry["digest"]])
        assert all(one["digest"] in blobs for one in (manifest["config"], *manifest["layers"]))
    return frozenset(entry["annotations"]["io.containerd.image.name"] for entry in entries)


def file_digest(store: Path, blob: str) -> str:
    path = _file(store, blob)
    with path.open("rb") as file:
        return f"sha256:{hashlib.file_digest(file, 'sha256').hexdigest()}"


def _file(store: Path, blob: str) -> Path:
    return store / "blobs" / blob.replace(":", "/")


def _names(engine: LocalEngine) -> Names:
    return {image.name: image.target.digest for image in engine.images.all()}

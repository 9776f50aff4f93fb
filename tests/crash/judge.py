"""What must hold of a store after anything has happened to it.

It is looked at by the engine, by fsck, and behind both their backs by hashing files.
"""

import hashlib
import os
import tarfile
from dataclasses import dataclass
from pathlib import Path

from tests.crash.operations import Names, Operation, Place
from tests.local_engine import LocalEngine

_CONTENT = {"blobs", "imgfs.db", "ingest", "leases", "version"}


@dataclass(frozen=True)
class Judge:
    """Of what an operation leaves: `before` and `after` are the images there were without it, and
    with it whole.
    """

    operation: Operation
    before: Names
    after: Names

    def judge_killed(self, place: Place, is_done: bool) -> None:
        """As `judge`, where all is there that was written."""
        if place.output.exists():
            check_archive(place.output)
        self.judge(place, is_done)

    def judge(self, place: Place, is_done: bool) -> None:
        """Look at the store in which it was interrupted, collect, and do it again; `is_done` says
        that it had told its success.
        """
        found = examine(place.store)
        assert found == self.after or (found == self.before and not is_done)
        expected = self.operation.again if found == self.after != self.before else 0
        assert self.operation.run(place) == expected
        assert examine(place.store) == self.after


def judge_of(operation: Operation, place: Place, root: Path) -> Judge:
    """Its judge, who does it once without any interruption in a copy of the place."""
    before = place.names() if operation.stocked else {}
    done = place.copy(root)
    assert operation.run(done) == 0
    return Judge(operation, before, done.names())


def examine(store: Path) -> Names:
    """Every image is whole, nothing but rubbish is wrong, and a collection takes all of that; what
    is listed.
    """
    with LocalEngine(store) as engine:
        listed = _names(engine)
        check_images(engine)
        list(engine.collector().collect())
        assert _names(engine) == listed
        check_collected(engine)
    found = set(os.listdir(store)) - {"names.lock", "layers"}
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
    """There is what the images need, and nothing else."""
    needed = {str(digest) for digest in engine.blobs_of(engine.images.all())}
    assert {str(info.digest) for info in engine.content.walk()} == needed
    assert engine.leases.list() == engine.leases.ended() == []
    root = engine.path
    tables = {found.path: found.digest for found in engine.local.tables.files()}
    assert set(tables.values()) <= needed
    files = {path for path in root.rglob("*") if path.is_file() and path.parent != root}
    files -= tables.keys()
    assert files == {_file(root, blob) for blob in needed}
    assert os.listdir(root / "ingest") == []


def check_archive(path: Path) -> None:
    """An archive that was saved is whole."""
    with tarfile.open(path) as archive:
        names = set(archive.getnames())
        assert {"index.json", "oci-layout"} <= names
        for member in archive:
            if member.isfile() and member.name.startswith("blobs/sha256/"):
                data = archive.extractfile(member)
                assert data is not None
                assert member.name == f"blobs/sha256/{hashlib.sha256(data.read()).hexdigest()}"


def file_digest(store: Path, blob: str) -> str:
    path = _file(store, blob)
    with path.open("rb") as file:
        return f"sha256:{hashlib.file_digest(file, 'sha256').hexdigest()}"


def _file(store: Path, blob: str) -> Path:
    return store / "blobs" / blob.replace(":", "/")


def _names(engine: LocalEngine) -> Names:
    return {image.name: image.target.digest for image in engine.images.all()}

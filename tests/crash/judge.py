"""What must hold of a store after anything has happened to it.

It is looked at by the engine, by fsck, and behind both their backs by hashing files.
"""

import contextlib
import hashlib
import os
import tarfile
from dataclasses import dataclass
from pathlib import Path

from engine.engine import Engine
from tests.crash.operations import Names, Operation, Place


@dataclass(frozen=True)
class Judge:
    """Of what an operation leaves: `before` and `after` are the images there were without it, and
    with it whole.
    """

    operation: Operation
    before: Names
    after: Names

    def judge(self, place: Place, is_done: bool = False) -> None:
        """Look at the store in which it was interrupted, collect, and do it again; `is_done` says
        that it had told its success.
        """
        listed = place.names()
        if is_done:
            assert listed == self.after
        assert listed in (self.before, self.after)
        for shelf in (place.output,):
            if shelf.exists():
                check_archive(shelf)
        check_images(place.store)
        collect(place.store)
        check_collected(place.store)
        assert place.names() == listed
        expected = self.operation.again if listed == self.after else 0
        assert self.operation.run(place) == expected or self.before == self.after
        assert place.names() == self.after
        check_images(place.store)
        collect(place.store)
        check_collected(place.store)


def judge_of(operation: Operation, place: Place, root: Path) -> Judge:
    """Its judge, who does it once without any interruption in a copy of the place."""
    before = place.names() if operation.stocked else {}
    done = place.copy(root)
    assert operation.run(done) == 0
    return Judge(operation, before, done.names())


def check_images(store: Path) -> None:
    """Every image that is listed is whole, and nothing but rubbish is wrong."""
    with Engine(store) as engine:
        for image in engine.images.all():
            summary = engine.images.summary(image.target.digest)
            assert summary.missing == ()
            graph = engine.graph(image)
            assert {blob.digest for blob in graph.blobs} == set(summary.blobs)
            assert graph.missing == ()
            for blob in summary.blobs:
                assert file_digest(store, blob) == blob, f"{image.name}: {blob}"
        problems = [problem for problem in engine.check() if not problem.kind.is_rubbish]
        assert problems == []


def collect(store: Path) -> None:
    with Engine(store) as engine:
        list(engine.collector().collect())


def check_collected(store: Path) -> None:
    """There is what the images need, and nothing else."""
    with Engine(store) as engine:
        needed = {str(digest) for digest in engine.blobs_of(engine.images.all())}
        assert {str(info.digest) for info in engine.content.walk()} == needed
        assert list(engine.check()) == []
        assert engine.leases.list() == engine.leases.ended() == []
    assert Place(store.parent).blobs() == needed
    assert os.listdir(store / "ingest") == []
    assert os.listdir(store / "leases") == []
    with contextlib.suppress(FileNotFoundError):
        assert set(os.listdir(store / "blobs")) <= {"sha256"}
    assert set(os.listdir(store)) == {"blobs", "imgfs.db", "ingest", "leases", "version"}


def file_digest(store: Path, blob: str) -> str:
    algorithm, _, encoded = blob.partition(":")
    with (store / "blobs" / algorithm / encoded).open("rb") as file:
        return f"{algorithm}:{hashlib.file_digest(file, algorithm).hexdigest()}"


def check_archive(path: Path) -> None:
    """An archive that was saved is whole."""
    with tarfile.open(path) as archive:
        assert {"index.json", "manifest.json"} <= set(archive.getnames())
        for member in archive:
            if member.isfile() and member.name.startswith("blobs/sha256/"):
                data = archive.extractfile(member)
                assert data is not None
                found = hashlib.file_digest(data, "sha256").hexdigest()  # type: ignore[arg-type]
                assert member.name == f"blobs/sha256/{found}"

"""Processes that share a store, each with a model of what it may see.

`python -m tests.crash.workers KIND STORE NUMBER STEPS` makes so many random steps, seeded by
NUMBER, and prints its own names as JSON at the end. Only the worker itself changes its own names,
and so it knows them; shared names may be anything that a worker gives them, or missing. Every image
that is not committed is one of `POOL`.
"""

import errno
import json
import os
import random
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from io import BytesIO
from pathlib import Path
from typing import Final

from engine.archive.directory_import import DirectoryImport
from engine.archive.import_options import ImportOptions
from engine.commit.source import CommitOptions, PlatformSource, Ref, Source
from engine.errors import BrokenArchive, NotFound
from engine.layouts import combined
from tests import archives
from tests.archives import ImageParts
from tests.crash.operations import load
from tests.local_engine import LocalEngine
from tests.mounts import write as drop_file

_RANDOM: Final = random.Random(11)
_LAYERS: Final = [archives.layer(f"{size}", _RANDOM.randbytes(size)) for size in (9, 3000, 80_000)]
_TOPS: Final = [archives.layer(f"top-{i}", _RANDOM.randbytes(70_000 * i)) for i in range(3)]
POOL: Final = {
    archives.digest(image.manifest()): image
    for image in (ImageParts(layers=[below, top]) for below in _LAYERS for top in _TOPS)
}
"""Targets, and their images."""
_SHARED: Final = tuple(f"docker.io/library/shared-{i}:1" for i in range(3))
_OWN_NAMES: Final = 3


class Worker:
    """A worker that changes a store, with names of its own."""

    def __init__(self, engine: LocalEngine, number: int) -> None:
        self._engine = engine
        self._chance = random.Random(number)
        self._room = tempfile.TemporaryDirectory(dir=engine.path.parent)
        self._scratch = LocalEngine(Path(self._room.name) / "scratch")
        self._prefix = f"docker.io/library/own-{number}-"
        self._names = [f"{self._prefix}{i}:1" for i in range(_OWN_NAMES)]
        self._made: set[str] = set()
        self.own: dict[str, str] = {}

    def work(self, steps: int) -> None:
        kinds: list[Callable[[], None]] = [
            *(self.load, self.load, self.load_on_what_is_there, self.load_half, self.commit),
            *(self.load_directory, self.load_half_a_directory),
            *(self.tag, self.tag, self.remove, self.remove, self.remove_shared, self.collect),
            *(self.save, self.save_shared, self.save_what_goes, self.load_what_goes, self.check),
        ]
        for _ in range(steps):
            self._chance.choice(kinds)()
            self._look()
        self._scratch.close()
        self._room.cleanup()

    # -- steps ------------------------------------------------------------------------------------

    def load(self) -> None:
        """Load two images; one of them has a shared name."""
        name, shared = self._chance.choice(self._names), self._chance.choice(_SHARED)
        first, second = self._chance.choices([*POOL], k=2)
        load(self._engine, archives.oci_archive((POOL[first], name), (POOL[second], shared)))
        self.own[name] = first

    def load_on_what_is_there(self) -> None:
        """Load an archive without layers, of an image that is stored and maybe of one that is
        not.
        """
        with self._some_own() as (_, target):
            if target in POOL:
                name = self._chance.choice(self._names)
                load(self._engine, _thin(target, name))
                self.own[name] = target
        with suppress(BrokenArchive):
            load(self._engine, _thin(self._chance.choice([*POOL]), self._chance.choice(_SHARED)))

    def load_directory(self) -> None:
        name, target = self._chance.choice(self._names), self._chance.choice([*POOL])
        files = self._files(target, name)
        with DirectoryImport(self._engine.store, ImportOptions(), "own") as directory:
            for path, data in files:
                _put(directory, path, data)
            assert (directory.missing, directory.error) == ((), None)
        self.own[name] = target

    def load_half_a_directory(self) -> None:
        files = self._files(self._chance.choice([*POOL]), self._names[0])
        with DirectoryImport(self._engine.store, ImportOptions(), "own") as directory:
            for path, data in files[: self._chance.randrange(len(files))]:
                if path != "index.json":
                    _put(directory, path, data)

    def load_half(self) -> None:
        archive = archives.oci_archive((self._chance.choice([*POOL.values()]), self._names[0]))
        with self._engine.begin_import() as session:
            session.feed(archive[: self._chance.randrange(len(archive) - 2000)])

    def commit(self) -> None:
        with self._some_own() as (base, _):
            root = Path(self._room.name) / "root"
            root.mkdir(exist_ok=True)
            (root / "file").write_bytes(self._chance.randbytes(1000))
            name = self._chance.choice(self._names)
            made = self._engine.commit(
                Source((PlatformSource(None, Ref(root)),), base),
                (name,),
                CommitOptions(created="2024-01-01T00:00:00Z"),
            )
            self.own[name] = made.target.digest
            self._made.add(made.target.digest)

    def tag(self) -> None:
        with self._some_own() as (source, target):
            name = self._chance.choice(self._names)
            assert self._engine.tag(source, name).target.digest == target
            self.own[name] = target
            if target in POOL:
                self._engine.tag(source, self._chance.choice(_SHARED))
        with suppress(NotFound):
            name = self._chance.choice(self._names)
            self.own[name] = self._engine.tag(self._chance.choice(_SHARED), name).target.digest
            assert self.own[name] in POOL

    def remove(self) -> None:
        with self._some_own() as (name, target):
            assert [i.target.digest for i in self._engine.remove(name)] == [target]
            del self.own[name]

    def remove_shared(self) -> None:
        with suppress(NotFound):
            self._engine.remove(self._chance.choice(_SHARED))

    def collect(self) -> None:
        list(self._engine.collector().collect())

    def save(self) -> None:
        with self._some_own() as (name, target):
            assert self._saved(name) == target

    def save_shared(self) -> None:
        with suppress(NotFound):
            assert self._saved(self._chance.choice(_SHARED)) in POOL

    def save_what_goes(self) -> None:
        """Remove and collect an image while it is being saved."""
        with self._some_own() as (name, target):
            assert self._saved(name, lambda: self._drop(target)) == target

    def load_what_goes(self) -> None:
        """Remove the blobs that the first half of an archive has found in the store, before the
        second.
        """
        with self._some_own() as (name, target):
            if target in POOL:
                archive = archives.oci_archive((POOL[target], name))
                half = len(archive) // 2
                with self._engine.begin_import() as session:
                    session.feed(archive[:half])
                    self._drop(target)
                    session.feed(archive[half:])
                    session.finish()
                self.own[name] = target

    def check(self) -> None:
        assert [p for p in self._engine.check() if not p.kind.is_rubbish] == []
        assert list(self._engine.check_layers()) == []

    # -- within -----------------------------------------------------------------------------------

    def _look(self) -> None:
        """Check that every listed image has an explanation."""
        listed = {image.name: image.target.digest for image in self._engine.images.all()}
        own = {name: target for name, target in listed.items() if name.startswith(self._prefix)}
        assert own == self.own
        assert {listed[name] for name in _SHARED if name in listed} <= POOL.keys()

    @contextmanager
    def _some_own(self) -> Iterator[tuple[str, str]]:
        """Return one of its own names and the target; load one if there is none."""
        if not self.own:
            self.load()
        yield self._chance.choice(sorted(self.own.items()))

    def _files(self, target: str, name: str) -> list[tuple[str, bytes]]:
        """Return the files of an OCI layout with an image, in any order."""
        files = archives.members(archives.oci_archive((POOL[target], name)))
        self._chance.shuffle(files)
        return files

    def _drop(self, target: str) -> None:
        """Remove all its own names of an image, and collect."""
        for name in [name for name, known in self.own.items() if known == target]:
            self._engine.remove(name)
            del self.own[name]
        self.collect()

    def _saved(self, name: str, meanwhile: Callable[[], None] = lambda: None) -> str:
        """Save an image that must be complete; return its target, by loading it into another
        store.

        `meanwhile` is called when a part has been written.
        """
        out = BytesIO()
        once = iter([meanwhile])

        def write(data: bytes) -> None:
            out.write(data)
            next(once, _nothing)()

        images = self._engine.find_to_save(name)
        self._engine.write(images, combined.Options(), write)
        load(self._scratch, out.getvalue())
        found = self._scratch.remove(name)
        list(self._scratch.collector().collect())
        assert len(found) == len(images) == 1
        assert found[0].target == images[0].target
        return found[0].target.digest


class Visitor:
    """A worker that uses a mount of the store: it copies archives in and reads trees."""

    def __init__(self, mount: Path, number: int) -> None:
        self._mount = mount
        self._chance = random.Random(number)
        self._number = number
        self.own: dict[str, str] = {}

    def work(self, steps: int) -> None:
        for step in range(steps):
            kinds = [self.drop, self.drop_directory, self.read_own, self.read_any, self.read_any]
            self._chance.choice(kinds)(step)

    def drop_directory(self, step: int) -> None:
        """Write an OCI layout into `import/`, its files in any order, and read the image."""
        name = f"own-{self._number}-{self._chance.randrange(_OWN_NAMES)}:1"
        target = self._chance.choice([*POOL])
        full = f"docker.io/library/{name}"
        files = archives.members(archives.oci_archive((POOL[target], full)))
        self._chance.shuffle(files)
        directory = self._mount / "import" / f"{self._number}-{step}"
        for path, data in files:
            (directory / path).parent.mkdir(parents=True, exist_ok=True)
            (directory / path).write_bytes(data)
        self.own[full] = target
        self._read(name)
        shutil.rmtree(directory)

    def drop(self, step: int) -> None:
        name = f"own-{self._number}-{self._chance.randrange(_OWN_NAMES)}:1"
        target = self._chance.choice([*POOL])
        archive = archives.oci_archive((POOL[target], f"docker.io/library/{name}"))
        drop_file(self._mount / "import" / f"{self._number}-{step}.tar", archive)
        self.own[f"docker.io/library/{name}"] = target
        self._read(name)

    def read_own(self, _step: int) -> None:
        for name, target in self.own.items():
            assert self._read(name.rpartition("/")[2]) == target

    def read_any(self, _step: int) -> None:
        """Read an image of another worker, which may be removed meanwhile."""
        for name in self._chance.sample(sorted(set(os.listdir(self._mount)) - {"import"}), 1):
            try:
                found = self._read(name)
            except OSError as error:
                if error.errno not in (errno.ENOENT, errno.ESTALE):
                    raise
            else:
                assert found in POOL or name.startswith("own-") or name == found, name

    def _read(self, name: str) -> str:
        """Read every file of an image, and check the digests of the blobs; return the target."""
        root = self._mount / name
        for blob in os.listdir(root / "blobs/sha256"):
            data = (root / "blobs/sha256" / blob).read_bytes()
            assert archives.digest(data) == f"sha256:{blob}"
        manifests = json.loads((root / "index.json").read_bytes())["manifests"]
        return str(manifests[0]["digest"])


def _put(directory: DirectoryImport, path: str, data: bytes) -> None:
    file = directory.new_file(path)
    file.write(data, 0)
    directory.arrived(path, directory.put(path, file))


def _nothing() -> None:
    """Do nothing."""


def _thin(target: str, name: str) -> bytes:
    """Return an archive of an image without its layers."""
    image = POOL[target]
    annotations = {"io.containerd.image.name": name}
    entry = archives.descriptor(image.manifest(), archives.OCI_MANIFEST, annotations=annotations)
    return archives.tar(archives.oci_members([entry], [image.manifest(), image.config]))


def _main(kind: str, path: str, number: str, steps: str) -> None:
    if kind == "mount":
        visitor = Visitor(Path(path), int(number))
        visitor.work(int(steps))
        print(json.dumps(visitor.own))
        return
    with LocalEngine(Path(path)) as engine:
        worker = Worker(engine, int(number))
        worker.work(int(steps))
        print(json.dumps(worker.own))


if __name__ == "__main__":
    _main(*sys.argv[1:])

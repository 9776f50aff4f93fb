"""A local store with all that tests do with its images."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Self

from engine import names
from engine.archive import save
from engine.archive.existing import extend
from engine.archive.import_options import ImportOptions
from engine.archive.importer import Import
from engine.archive.save import Output
from engine.archive.save_for_docker import save_for_docker
from engine.closing import Closing
from engine.commit.commit import Committed, commit
from engine.commit.source import CommitOptions, Source
from engine.details import Details, details
from engine.graph import Graph, graph
from engine.image import Image
from engine.layouts import combined, docker_save
from engine.progress import Progress, ignore
from engine.spec import platforms
from engine.stores.local import fsck
from engine.stores.local.content import LocalContent
from engine.stores.local.database import Database
from engine.stores.local.fsck.problem import Problem, Unverified
from engine.stores.local.fsck.repair import repair
from engine.stores.local.fsck.replacement import restore_names
from engine.stores.local.gc import Collector
from engine.stores.local.images import LocalImages
from engine.stores.local.leases import LocalLeases
from engine.stores.local.store import LocalStore
from engine.stores.protocols import EventLog

Write = Callable[[bytes], object]


class LocalEngine(Closing):
    """A local store, and one method for each thing that tests do with its images."""

    def __init__(self, path: Path) -> None:
        """Open the store at a path, or make one if there is none; raise StoreError."""
        self.local = self.store = LocalStore.create(path)

    @classmethod
    def open(cls, path: Path) -> Self:
        """Open the store at a path, which must be there."""
        engine = cls.__new__(cls)
        engine.local = engine.store = LocalStore.open(path)
        return engine

    @property
    def path(self) -> Path:
        return self.store.directory

    @property
    def database(self) -> Database:
        return self.store.database

    @property
    def content(self) -> LocalContent:
        return self.store.content

    @property
    def images(self) -> LocalImages:
        return self.store.images

    @property
    def leases(self) -> LocalLeases:
        return self.store.leases

    @property
    def events(self) -> EventLog:
        return self.store.events

    def close(self) -> None:
        self.store.close()

    def begin_import(self, options: ImportOptions | None = None) -> Import:
        return Import(self.store, options or ImportOptions())

    def save(self, images: Sequence[Image], options: combined.Options, output: Output) -> int:
        return save.save(self.store, images, options, output)

    def commit(
        self,
        source: Source,
        names: Sequence[str],
        options: CommitOptions,
        progress: Callable[[str, int], None] = lambda _step, _read: None,
    ) -> Committed:
        return commit(self.store, source, names, options, progress)

    def details(self, name: str, matcher: platforms.Matcher | None = None) -> Details:
        return details(self.store, name, matcher)

    def find(self, name: str) -> list[Image]:
        return names.find(self.images, name)

    def find_one(self, name: str) -> Image:
        return names.find_one(self.images, name)

    def tag(self, source: str, name: str) -> Image:
        return names.tag(self.store, source, name)

    def remove(self, name: str) -> list[Image]:
        return names.remove(self.store, name)

    def collector(self) -> Collector:
        return Collector(self.local)

    def check(self, progress: Progress = ignore) -> Iterator[Problem]:
        return fsck.check(self.local, progress)

    def check_layers(self) -> Iterator[Problem]:
        return fsck.check_layers(self.local)

    def unverified_layers(self) -> Iterator[Unverified]:
        return fsck.unverified_layers(self.local)

    def repair(self, problem: Problem) -> str:
        return repair(self.local, problem)

    def restore_names(self, names: Mapping[str, str]) -> list[str]:
        return restore_names(self.local, names)

    def graph(self, image: Image) -> Graph:
        return graph(self.content, image.target)

    def blobs_of(self, images: Sequence[Image]) -> frozenset[str]:
        """Return the digests of all that the store holds below these images."""
        targets = {image.target.digest for image in images}
        return frozenset(b for target in targets for b in self.images.summary(target).blobs)

    def find_to_save(self, name: str) -> list[Image]:
        return names.find_to_save(self.images, name)

    def write(
        self,
        images: Sequence[Image],
        options: combined.Options,
        write: Write,
        progress: Progress = ignore,
    ) -> int:
        """Save images to a function that takes bytes."""
        return save.save(self.store, images, options, Output(write, progress))

    def extend(
        self, archive: Path, images: Sequence[Image], options: combined.Options, write: Write
    ) -> int:
        return extend(self.store, archive, images, options, Output(write))

    def save_for_docker(
        self, images: Sequence[Image], options: docker_save.Options, write: Write
    ) -> int:
        return save_for_docker(self.store, images, options, Output(write))

"""A local store with all that tests do with its images."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from engine import names
from engine.archive import save
from engine.archive.existing import ExistingArchive, Extended
from engine.archive.save import Output
from engine.archive.save_for_docker import save_for_docker
from engine.engine import Engine
from engine.graph import Graph, graph
from engine.image import Image
from engine.layouts import combined, docker_save
from engine.progress import Progress, ignore
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

Write = Callable[[bytes], object]


class LocalEngine(Engine):
    """An engine whose store is local, with more methods for what tests do."""

    store: LocalStore

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

    def collector(self) -> Collector:
        return Collector(self.store)

    def check(self, progress: Progress = ignore) -> Iterator[Problem]:
        return fsck.check(self.store, progress)

    def check_layers(self) -> Iterator[Problem]:
        return fsck.check_layers(self.store)

    def unverified_layers(self) -> Iterator[Unverified]:
        return fsck.unverified_layers(self.store)

    def repair(self, problem: Problem) -> str:
        return repair(self.store, problem)

    def restore_names(self) -> list[str]:
        return restore_names(self.store)

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
        with ExistingArchive(archive) as existing:
            return save.save(self.store, images, options, Extended(existing, Output(write)))

    def save_for_docker(
        self, images: Sequence[Image], options: docker_save.Options, write: Write
    ) -> int:
        return save_for_docker(self.store, images, options, Output(write))

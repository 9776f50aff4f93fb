"""The engine as a library: a store, and one method for each thing that is done with its images.

Commands and the mount call the functions behind these methods themselves, and import only what they
need.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Self

from engine import names
from engine.stores.open import create_store, open_store

if TYPE_CHECKING:
    from engine.archive.import_options import ImportOptions
    from engine.archive.importer import Import
    from engine.archive.save import Output
    from engine.commit.commit import Committed
    from engine.commit.source import CommitOptions, Source
    from engine.details import Details
    from engine.image import Image
    from engine.layers.layer import Layers
    from engine.layouts import combined
    from engine.spec import platforms
    from engine.stores.protocols import ContentStore, EventLog, ImageStore, LeaseManager, Store


class Engine:
    """One store, and what can be done with it. Safe from any thread."""

    def __init__(self, path: Path) -> None:
        """Open the store at a path, or make one if there is none; raise StoreError."""
        self.store: Store = create_store(str(path))

    @classmethod
    def open(cls, path: Path) -> Self:
        """Open the store at a path, which must be there.

        Raise StoreMissing if there is none yet, StoreError if it cannot be opened.
        """
        engine = cls.__new__(cls)
        engine.store = open_store(str(path))
        return engine

    @property
    def path(self) -> Path:
        """The directory of the store, or of its cache."""
        return self.store.directory

    @property
    def content(self) -> ContentStore:
        return self.store.content

    @cached_property
    def layers(self) -> Layers:
        """The layers of the store, by which the files of images are read."""
        from engine.layers.layer import Layers

        return Layers(self.store.content, self.store.tables, self.store.directory)

    @property
    def images(self) -> ImageStore:
        return self.store.images

    @property
    def leases(self) -> LeaseManager:
        return self.store.leases

    @property
    def events(self) -> EventLog:
        return self.store.events

    def close(self) -> None:
        if "layers" in self.__dict__:
            self.layers.close()
        self.store.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def begin_import(self, options: ImportOptions | None = None) -> Import:
        """Return an import to feed an archive to."""
        from engine.archive.import_options import ImportOptions
        from engine.archive.importer import Import

        return Import(self.store, options or ImportOptions())

    def save(self, images: Sequence[Image], options: combined.Options, output: Output) -> int:
        """As `archive.save.save`."""
        from engine.archive.save import save

        return save(self.store, images, options, output)

    def commit(
        self,
        source: Source,
        names: Sequence[str],
        options: CommitOptions,
        progress: Callable[[str, int], None] = lambda _step, _read: None,
    ) -> Committed:
        """As `commit.commit.commit`."""
        from engine.commit.commit import commit

        return commit(self.store, source, names, options, progress)

    def details(self, name: str, matcher: platforms.Matcher | None = None) -> Details:
        """As `details.details`."""
        from engine.details import details

        return details(self.store, name, matcher)

    def find(self, name: str) -> list[Image]:
        """As `names.find`."""
        return names.find(self.images, name)

    def find_one(self, name: str) -> Image:
        """As `names.find_one`."""
        return names.find_one(self.images, name)

    def tag(self, source: str, name: str) -> Image:
        """As `names.tag`."""
        return names.tag(self.store, source, name)

    def remove(self, name: str) -> list[Image]:
        """As `names.remove`."""
        return names.remove(self.store, name)

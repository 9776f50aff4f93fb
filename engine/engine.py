"""An opened store, and what a caller can do with its images. Safe from any thread; several
processes may share a store.

What only some commands need is imported when it is needed: the start of every command is felt.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Self

import msgspec

from engine.content.blobs import read_blob
from engine.errors import InvalidReference, NotAnImage, NotFound, StoreDamaged, StoreError
from engine.image import Image
from engine.progress import Progress, ignore
from engine.spec import reference
from engine.spec.digest import Digest
from engine.stores.local.content import LocalStore, sync_directory
from engine.stores.local.database import Database, locked_directory
from engine.stores.local.directory import VERSION, create_directory, has_version, open_directory
from engine.stores.local.events import EventLog
from engine.stores.local.images import ImageStore
from engine.stores.local.leases import Leases
from engine.tracing import Tracer, Untraced

if TYPE_CHECKING:
    from engine import graph as walk
    from engine.archive.import_options import ImportOptions
    from engine.archive.importer import Import
    from engine.commit.commit import Committed
    from engine.commit.platform_images import Base
    from engine.commit.source import CommitOptions, Source
    from engine.commit.source import Progress as Steps
    from engine.content.protocols import Provider
    from engine.layouts import combined, docker_save
    from engine.layouts.entry import Entry
    from engine.spec import platforms
    from engine.spec.oci import ImageConfig, Platform
    from engine.stores.local.fsck.problem import Parts as FsckParts
    from engine.stores.local.fsck.problem import Problem, Unverified
    from engine.stores.local.gc import Collector


class Details(msgspec.Struct, frozen=True):
    """An image manifest with its documents: what `inspect` and `history` tell."""

    image: Image
    names: tuple[str, ...]
    manifest: walk.ImageManifest
    raw_config: bytes

    @property
    def config(self) -> ImageConfig:
        from engine.spec import oci

        return oci.parse_config(self.raw_config, self.manifest.manifest.config.digest)


class Engine:
    """One store."""

    def __init__(
        self,
        path: Path,
        tracer: Tracer | None = None,
        enter: Callable[[Path], None] = create_directory,
    ) -> None:
        """Open the store at `path`, or create it if there is none.

        Raise StoreError where that cannot be, as in a directory that is something else. `enter`
        prepares the directory.
        """
        self.path = path
        self._tracer = tracer or Untraced()
        try:
            with ExitStack() as opened:
                enter(path)
                if not has_version(path):  # a new store, or one that lost its power in the making
                    _write_version(path)
                _check_database(path)
                self.database = opened.enter_context(Database(path / "imgfs.db"))
                self.content = LocalStore(path, self.database)
                self.leases = Leases(path, self.database)
                opened.pop_all()
        except OSError as error:
            what = errno.ENOTDIR if error.errno == errno.EEXIST else error.errno or errno.EIO
            raise StoreError(str(path), f"cannot be opened: {os.strerror(what)}") from error
        self.images = ImageStore(self.database)
        self.events = EventLog(self.database)

    @classmethod
    def open(cls, path: Path, tracer: Tracer | None = None) -> Self:
        """Open the store at `path`, which must be there; raise StoreMissing if there is none.

        StoreError as of the other constructor. A path that is no store is left as it is.
        """
        return cls(path, tracer, open_directory)

    def close(self) -> None:
        self.database.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # -- loading and saving -----------------------------------------------------------------------

    def begin_import(self, options: ImportOptions | None = None) -> Import:
        """An archive to feed."""
        from engine.archive.import_options import ImportOptions
        from engine.archive.importer import Import, Parts

        parts = Parts(self.database, self.content, self.images, self.leases, self.events)
        return Import(parts, options or ImportOptions())

    def save(
        self,
        images: Sequence[Image],
        options: combined.Options,
        write: Callable[[bytes], object],
        progress: Progress = ignore,
    ) -> int:
        """Write one archive of these images, every blob verified as it is copied; its size in
        bytes.
        """
        from engine.layouts import combined

        layout = partial(combined.layout, images, self.content, options)
        return self._save(images, layout, self.content, write, progress)

    def extend(
        self,
        archive: Path,
        images: Sequence[Image],
        options: combined.Options,
        write: Callable[[bytes], object],
        progress: Progress = ignore,
    ) -> int:
        """Write what the archive holds and these images as one; errors as `save` and
        `ExistingArchive`.
        """
        from engine.archive.existing import ExistingArchive
        from engine.layouts import combined
        from engine.layouts.union import union

        with ExistingArchive(archive) as existing:

            def layout() -> Sequence[Entry]:
                return union(existing.entries, combined.layout(images, self.content, options))

            provider = existing.before(self.content)
            return self._save(images, layout, provider, write, progress)

    def save_for_docker(
        self,
        images: Sequence[Image],
        options: docker_save.Options,
        write: Callable[[bytes], object],
        progress: Progress = ignore,
    ) -> int:
        """As `save`, but the archive that docker save writes: every layer uncompressed."""
        from engine.layers.diff_ids import uncompressed_size
        from engine.layouts import docker_save

        size = partial(uncompressed_size, self.content)
        layout = partial(docker_save.layout, images, self.content, size, options)
        return self._save(images, layout, self.content, write, progress)

    def _save(
        self,
        images: Sequence[Image],
        layout: Callable[[], Sequence[Entry]],
        provider: Provider,
        write: Callable[[bytes], object],
        progress: Progress,
    ) -> int:
        from engine.archive import save as saving

        parts = saving.Parts(self.database, self.images, self.leases, self.events, self._tracer)
        return saving.save(parts, images, layout, provider, saving.Output(write, progress))

    def blobs_of(self, images: Sequence[Image]) -> frozenset[str]:
        """The digests of everything below these images that the store holds."""
        targets = {image.target.digest for image in images}
        return frozenset(b for target in targets for b in self.images.summary(target).blobs)

    # -- keeping house ----------------------------------------------------------------------------

    def collector(self) -> Collector:
        """Who removes what nothing needs."""
        from engine.stores.local import gc

        return gc.Collector(gc.Parts(self.database, self.content, self.leases, self.events))

    def check(self, progress: Progress = ignore) -> Iterator[Problem]:
        """What is wrong with the store; as `fsck.check`."""
        from engine.stores.local import fsck

        return fsck.check(self._fsck_parts(), progress)

    def check_layers(self) -> Iterator[Problem]:
        """What is wrong with layers; as `fsck.check_layers`."""
        from engine.stores.local import fsck

        return fsck.check_layers(self._fsck_parts())

    def unverified_layers(self) -> Iterator[Unverified]:
        """Layers that nobody here can look into; as `fsck.unverified_layers`."""
        from engine.stores.local import fsck

        return fsck.unverified_layers(self._fsck_parts())

    def repair(self, problem: Problem) -> str:
        """Do what is safe about it; as `fsck.repair`."""
        from engine.stores.local.fsck.repair import repair

        return repair(self._fsck_parts(), problem)

    def restore_names(self, names: Mapping[str, str]) -> list[str]:
        """Give back names that a damaged database still had; as `fsck.restore_names`."""
        from engine.stores.local.fsck.replacement import restore_names

        return restore_names(self._fsck_parts(), names)

    def _fsck_parts(self) -> FsckParts:
        from engine.stores.local.fsck.problem import Parts

        return Parts(self.path, self.database, self.content, self.images)

    # -- making -----------------------------------------------------------------------------------

    def commit(
        self,
        source: Source,
        names: Sequence[str],
        options: CommitOptions,
        progress: Steps = lambda _step, _read: None,
    ) -> Committed:
        """Make an image of directories, with these full names; errors as `exporter.commit`.

        NotFound where the base image has none of a wanted platform.
        """
        from engine.commit import commit as exporter

        parts = exporter.Parts(self.database, self.content, self.images, self.leases, self.events)
        bases = [self._base(source.base, part.platform) for part in source.platforms]
        with self._tracer.span("commit"):
            return exporter.commit(parts, bases, source, names, options, progress)

    def _base(self, name: str, platform: Platform | None) -> Base | None:
        from engine.commit import platform_images

        if not name:
            return None
        from engine.spec import platforms

        matcher = platforms.only(platform) if platform else None
        return platform_images.base_of(self.content, self.details(name, matcher).manifest)

    # -- names ------------------------------------------------------------------------------------

    def find(self, name: str) -> list[Image]:
        """The images that a user's words mean, as docker takes them.

        A full or familiar name; a name alone (every tag of it); an ID, a unique ID prefix or
        "sha256:<hex>"; NAME@DIGEST. NotFound, Ambiguous, InvalidReference.
        """
        return self._named(self._parse(name)) or self.images.by_id(name)

    def find_to_save(self, name: str) -> list[Image]:
        """Return what `find` does, but of NAME@DIGEST the image without a name, as docker saves,
        unless it is stored by just that name.
        """
        found = self.find(name)
        ref = self._parse(name) if "@" in name else None
        if ref is None or [image.name for image in found] == [str(ref)]:
            return found
        return [Image(image.target.digest, image.target) for image in found]

    def find_one(self, name: str) -> Image:
        """The one image that a user's words mean; a name alone means its `latest`."""
        return (self._tagged(name) or self.images.by_id(name))[0]

    def tag(self, source: str, name: str) -> Image:
        """Give the image another name; what had that name before loses it."""
        ref = reference.tag_name_only(reference.parse_normalized(name))
        if ref.digest is not None:
            raise InvalidReference(name, "digest", "a tag cannot have a digest")
        with self.database.transaction():
            return self.images.put(Image(str(ref), self.find_one(source).target))

    def remove(self, name: str) -> list[Image]:
        """Remove a name, or by ID every name of an image; with its last name an image goes. What
        was removed.
        """
        with self.database.transaction():
            images = self._tagged(name) or self.images.by_id(name)
            for image in images:
                self.images.delete(image.name)
        return images

    # -- looking ----------------------------------------------------------------------------------

    def graph(self, image: Image) -> walk.Graph:
        from engine import graph as walk

        return walk.graph(self.content, image.target)

    def details(self, name: str, matcher: platforms.Matcher | None = None) -> Details:
        """The image manifest that fits this host, or `matcher`, best; NotFound if there is none for
        `matcher`, NotAnImage for an artifact.
        """
        from engine.layouts import selection
        from engine.spec import platforms

        image = self.find_one(name)
        graph = self.graph(image)
        best = graph.best(matcher or platforms.only(platforms.host()))
        if best is None and matcher is None:
            best = selection.any_complete(graph)
        if best is None and graph.is_artifact:
            raise NotAnImage(name, graph.artifact_type)
        if best is None:
            raise NotFound("a complete image for that platform below", name)
        config = best.manifest.config
        raw = read_blob(self.content, Digest(config.digest), config.size)
        names = tuple(
            i.familiar for i in self.images.names_of(image.target.digest) if not i.is_untagged
        )
        return Details(image, names, best, raw)

    def _tagged(self, name: str) -> list[Image]:
        parsed = self._parse(name)
        return self._named(parsed and reference.tag_name_only(parsed))

    def _parse(self, name: str) -> reference.Reference | None:
        parsed = reference.parse_any(name)
        return parsed if isinstance(parsed, reference.Reference) else None

    def _named(self, ref: reference.Reference | None) -> list[Image]:
        if ref is None:
            return []
        if ref.is_name_only:
            return self.images.all(ref.name)
        found = self.images.find(str(ref))
        if found or ref.digest is None:
            return [found] if found else []
        return [i for i in self.images.all(ref.name) if ref.digest == i.target.digest][:1]


def _write_version(path: Path) -> None:
    """Say it, and make the store outlive a loss of power, with all directories on the way to it."""
    with locked_directory(path) as directory:
        with (path / "version").open("wb") as out:
            out.write(f"{VERSION}\n".encode())
            out.flush()
            os.fsync(out.fileno())
        (path / ".version").unlink(missing_ok=True)  # what an earlier imgfs left when it was killed
        os.fsync(directory)
    for parent in path.absolute().parents:
        with suppress(OSError):  # one that we may not read is not one that we have made
            sync_directory(parent)


def _check_database(path: Path) -> None:
    """A new database would hide the blobs of a store that has lost its own."""
    database = path / "imgfs.db"
    if not (database.exists() and database.stat().st_size) and any(path.glob("blobs/*/*")):
        reason = (
            "the database is missing or empty, the blobs are there: put it back,"
            " or run imgfs fsck --repair"
        )
        raise StoreDamaged(str(database), reason)

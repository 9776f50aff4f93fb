"""An image store as everything above it sees it: names and targets.

A name is a full reference with a tag or digest, or the target's own digest for an image that has no
name. What is below a target is recorded once, as a `Summary`, so that listing reads no blob.
"""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, suppress
from typing import TYPE_CHECKING

from msgspec.structs import replace

from engine.errors import AlreadyExists, Ambiguous, InvalidReference, NotFound
from engine.image import Image, ManifestSummary, Summary, Target, TreeEntry, check_name, path_of
from engine.spec import reference

if TYPE_CHECKING:
    from engine.spec.descriptor import Descriptor
    from engine.stores.protocols import EventLog


class ImageStore(ABC):
    """The images of a store. A store implements the abstract methods, and overrides those that it
    can do faster than by looking at every image.
    """

    supports_listing = True
    """Whether `all` can be called; if not, an image is found by its full name only."""
    supports_untagged = True
    """Whether an image can be in the store without a name."""
    domain = ""
    """The start of all names, without the slash at its end; "" if any name can be stored."""
    is_remote = False
    """Whether finding and listing names can wait for a network."""

    def __init__(self, events: EventLog, clock: Callable[[], float] = time.time) -> None:
        """`clock` returns seconds since the epoch."""
        self._events = events
        self._clock = clock

    # What a store implements

    @abstractmethod
    def _transaction(self) -> AbstractContextManager[object]:
        """As `Store.transaction`."""

    @abstractmethod
    def find(self, name: str) -> Image | None:
        """Return the image of that full name, if there is one."""

    @abstractmethod
    def all(self, repository: str = "") -> list[Image]:
        """Return every image, or those of one repository (a full name), sorted by name.

        Raise Unsupported if the store cannot list its names.
        """

    @abstractmethod
    def record(self, target: str, summary: Summary) -> None:
        """Keep what is below a target, in the place of what was kept before."""

    @abstractmethod
    def summary(self, target: str) -> Summary:
        """Return what is below a target, its blobs sorted; raise NotFound."""

    @abstractmethod
    def _write(self, image: Image) -> None:
        """Store a name and its image, in the place of what it named before."""

    @abstractmethod
    def _erase(self, name: str) -> None:
        """Remove a name, if it is there."""

    @abstractmethod
    def _erase_record(self, target: str) -> None:
        """Drop what is recorded of a target."""

    # Changes

    def create(self, image: Image) -> Image:
        """Add an image whose target is recorded; raise AlreadyExists if the name is taken."""
        with self._transaction():
            if self.find(image.name) is not None:
                raise AlreadyExists("image", image.name)
            return self.put(image)

    def update(self, image: Image) -> Image:
        """Point an existing name at another target, as `put` does; raise NotFound."""
        with self._transaction():
            self.get(image.name)
            return self.put(image)

    def put(self, image: Image) -> Image:
        """Create the image, or point its name at another target.

        The old target stays, untagged if that was its last name.
        """
        with self._transaction():
            old = self.find(image.name)
            self.target(image.target.digest)
            check_name(image.name, image.target.digest)
            now = self._clock()
            created_at = old.created_at if old else now
            stored = replace(image, created_at=created_at, updated_at=now)
            self._write(stored)
            if not stored.is_untagged:
                self._erase(stored.target.digest)
            if old is None or old.target.digest != stored.target.digest:
                if old is not None:
                    self._keep(old)
                self._report("tag", stored)
            return stored

    def delete(self, name: str) -> Image:
        """Remove a name, and with the last name of a target the target; raise NotFound."""
        with self._transaction():
            image = self.get(name)
            self._erase(name)
            self._report("untag", image)
            if not self.is_named(image.target.digest):
                self._erase_record(image.target.digest)
                self._events.add("delete", image.target.digest)
            return image

    def untag(self, name: str) -> Image:
        """Remove a name; the image stays, untagged if that was its last. Raise NotFound."""
        with self._transaction():
            image = self.get(name)
            self._erase(name)
            if not image.is_untagged:
                self._keep(image)
            self.forget(image.target.digest)
            self._report("untag", image)
            return image

    def forget(self, target: str) -> None:
        """Drop what is recorded of a target, unless an image points at it."""
        with self._transaction():
            if not self.is_named(target):
                self._erase_record(target)

    def _keep(self, old: Image) -> None:
        """Keep an image whose name is gone, untagged if it has no other."""
        target = old.target.digest
        if not self.is_named(target):
            self._write(replace(old, name=target, updated_at=self._clock()))

    def _report(self, action: str, image: Image) -> None:
        if not image.is_untagged:
            self._events.add(action, image.target.digest, image.name)

    # Names

    def get(self, name: str) -> Image:
        """Return the image of that full name; raise NotFound."""
        image = self.find(name)
        if image is None:
            raise NotFound("image", name)
        return image

    def names_of(self, target: str) -> list[Image]:
        """Return the images that point at a target, sorted by name."""
        return [image for image in self.all() if image.target.digest == target]

    def artifacts(self) -> list[Image]:
        """Return the images whose target holds no image for any platform, sorted by name."""
        found: list[Image] = []
        for image in self.all():
            with suppress(NotFound):  # it has been removed since
                if not any(m.config for m in self.manifests(image.target.digest)):
                    found.append(image)
        return found

    def is_named(self, target: str) -> bool:
        """Return whether any name points at a target."""
        return bool(self.names_of(target))

    def count(self) -> int:
        """Return how many images there are."""
        return len(self.all())

    def by_id(self, prefix: str) -> list[Image]:
        """Return the images whose ID, a digest of a config or of a target, begins with `prefix`.

        `prefix` is "sha256:<hex…>" or at least one hex digit. The result holds all names of one
        image, sorted. Raise NotFound if there is none, and Ambiguous if `prefix` fits several
        targets that are not one image.
        """
        algorithm, _, encoded = prefix.rpartition(":")
        if not encoded or not set(encoded) <= set("0123456789abcdef"):
            raise NotFound("image", prefix)
        found = self._ids(f"{algorithm or 'sha256'}:{encoded}")
        targets, ids = ({pair[i] for pair in found} for i in (0, 1))
        if not found:
            raise NotFound("image", prefix)
        if len(ids) > 1 and len(targets) > 1:
            raise Ambiguous(prefix, tuple(sorted(ids)))
        return [image for target in sorted(targets) for image in self.names_of(target)]

    def _ids(self, start: str) -> set[tuple[str, str]]:
        """Return the targets of images with each of their IDs that begin with `start`."""
        targets = {image.target.digest for image in self.all()}
        known = {(target, m.config) for target in targets for m in self.manifests(target)}
        known |= {(target, target) for target in targets}
        return {(target, id_) for target, id_ in known if id_.startswith(start)}

    # Images as a tree of directories

    def places(self, prefix: str = "") -> Iterator[TreeEntry]:
        """Yield every image whose path begins with `prefix`, sorted by path."""
        images = [(path_of(image.name), image) for image in self.all()]
        registries = {path.partition("/")[0] for path, _ in images if "/" in path}
        settled = [(image.name if path in registries else path, image) for path, image in images]
        for path, image in sorted(settled, key=lambda item: item[0]):
            if path.startswith(prefix):
                yield self.place(image, path)

    def listed(self, prefix: str) -> Iterator[tuple[str, TreeEntry | None]]:
        """Yield each name below `prefix` once, with its image; None if it is a namespace.

        `prefix` is "" or ends with a slash. The target of an image is "" if the store knows only
        its name; `place_at` returns it whole.
        """
        last = ""
        for place in self.places(prefix):
            name, slash, _ = place.path[len(prefix) :].partition("/")
            if not slash:
                yield name, place
            elif name != last:
                yield name, None
                last = name

    def place_at(self, path: str) -> TreeEntry | None:
        """Return the image at a path as `places` yields it."""
        for name in _names_at(path):
            image = self.find(name)
            if image is not None and self._path(name) == path:
                return self.place(image, path)
        return None

    def place(self, image: Image, path: str) -> TreeEntry:
        """Return an image at a path that need not be its own; raise NotFound."""
        from engine.spec import go_json  # deferred, since most readers do not need it

        known = self.target(image.target.digest)
        target = go_json.dumps(image.target).decode()
        return TreeEntry(path, image.name, target, known.revision, known.created)

    def has_paths(self, prefix: str) -> bool:
        """Return whether any path is known to begin with `prefix`, which ends in "/" or ":"."""
        return self.supports_listing and any(True for _ in self.places(prefix))

    def newest(self, prefix: str) -> int:
        """Return when the newest image whose path begins with `prefix` was created, in seconds
        since the epoch; 0 if none is known.
        """
        places = self.places(prefix) if self.supports_listing else ()
        return max((place.created for place in places), default=0)

    def _path(self, name: str) -> str:
        """Return the path of an image: its name if the path is that of a registry here."""
        path = path_of(name)
        return name if "/" not in path and self.has_paths(f"{path}/") else path

    # Targets

    def target(self, digest: str) -> Target:
        """Return what is known of a target; raise NotFound."""
        summary = self.summary(digest)
        return Target(digest, summary.revision, summary.created)

    def manifests(self, target: str) -> tuple[ManifestSummary, ...]:
        """Return the complete manifests below a target, in their order; raise NotFound."""
        return self.summary(target).manifests

    def lacking(self, blobs: Iterable[str]) -> list[Descriptor]:
        """Return the images' targets below which one of these blobs was missing when it was
        recorded, sorted by digest.
        """
        wanted = set(blobs)
        targets = {image.target.digest: image.target for image in self.all()}
        return [targets[t] for t in sorted(targets) if wanted & {*self.summary(t).missing}]

    def links(self, blobs: Iterable[str]) -> dict[str, int]:
        """Return in how many images (names count) each of these blobs is."""
        held = [self.summary(image.target.digest).blobs for image in self.all()]
        return {blob: sum(blob in each for each in held) for blob in blobs}


def _names_at(path: str) -> Iterator[str]:
    """Yield the full names of the images that can be at a path."""
    yield path
    with suppress(InvalidReference):
        if (name := str(reference.parse_normalized(path))) != path:
            yield name

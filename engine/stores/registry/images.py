"""The images of a registry: names are looked up there, and what is found is kept in the cache.

Every name is a full one, of the registry itself; a name without a registry means the same below
the store's prefix. While the registry does not answer, the names in the cache stand for its own.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, suppress
from functools import partial
from typing import TYPE_CHECKING, TypeVar

from msgspec.structs import replace

from engine.errors import (
    EngineError,
    InvalidDigest,
    InvalidReference,
    NotFound,
    StoreBusy,
    StoreDamaged,
    Unreachable,
    Unsupported,
    printable,
)
from engine.image import Image, ManifestSummary, Summary, Target, TreeEntry, check_name, path_of
from engine.spec import reference
from engine.stores.images import ImageStore
from engine.stores.registry.api import Reading
from engine.stores.registry.changes import Changes
from engine.stores.registry.listing import UNTOLD, Listing
from engine.stores.registry.location import Location
from engine.stores.registry.lookup import Lookup

if TYPE_CHECKING:
    from engine.spec.descriptor import Descriptor
    from engine.stores.protocols import EventLog
    from engine.stores.referrers import Referrer
    from engine.stores.registry.cached_images import CachedImages
    from engine.stores.registry.puller import Puller

log = logging.getLogger(__name__)

_T = TypeVar("_T")


class RegistryImages(ImageStore):
    """The images below the store's prefix."""

    is_remote = True
    supports_untagged = False

    def __init__(
        self,
        cached: CachedImages,
        reading: Reading,
        location: Location,
        puller: Puller,
        changes: Changes,
        events: EventLog,
        transaction: Callable[[], AbstractContextManager[object]],
        referrer_of: Callable[[Descriptor], Referrer | None],
    ) -> None:
        super().__init__(events)
        self.domain = location.root.removesuffix("/")
        self._cached = cached
        self._location = location
        self._puller = puller
        self._changes = changes
        self._begin = transaction
        self._referrer_of = referrer_of
        self._listing = Listing(reading, location, events.last)
        self._lookup = Lookup(cached, reading, location, puller, events)
        self._left_out: set[str] = set()
        """The names of which it was logged that they are not listed."""

    def _transaction(self) -> AbstractContextManager[object]:
        return self._begin()

    # Names

    def find(self, name: str) -> Image | None:
        """Return the image of that full name, as the registry has it now or had it seconds ago."""
        full = self._location.full_name(name)
        if full is None or reference.parse_normalized(full).is_name_only:
            return None
        if full in self._changes.pending:
            return self._changes.pending[full]
        return self._lookup.find(full)

    def all(self, repository: str = "") -> list[Image]:
        if repository:
            full = self._full_repository(repository)
            return self._resolved([full]) if full else []
        return self._resolved(self._repositories())

    def names_of(self, target: str) -> list[Image]:
        """Return the known images that point at a target; one by digest only if no tag of its
        repository, with the changes of this transaction or without them, does.
        """
        cached = self._cached.names_of(target)
        found = {image.name: image for image in cached}
        for name, image in self._changes.pending.items():
            found.pop(name, None)
            if image is not None and image.target.digest == target:
                found[name] = image
        tags = filter(_is_tag, (*found, *(image.name for image in cached)))
        tagged = {_repository(tag) for tag in tags}
        return [
            found[name]
            for name in sorted(found)
            if name.startswith(self._root) and (_is_tag(name) or _repository(name) not in tagged)
        ]

    def count(self) -> int:
        """Return how many images are known."""
        return sum(1 for _ in self._cached.places(self._location.root))

    def _ids(self, start: str) -> set[tuple[str, str]]:
        """Return the IDs of the known images."""
        known = [image for image in self._cached.all() if image.name.startswith(self._root)]
        targets = {image.target.digest for image in known}
        ids = {(target, m.config) for target in targets for m in self.manifests(target)}
        ids |= {(target, target) for target in targets}
        return {(target, id_) for target, id_ in ids if id_.startswith(start)}

    @property
    def _root(self) -> str:
        return self._location.root

    def _repositories(self) -> list[str]:
        """Return the full names of the repositories that the registry lists or that are known."""
        known = {place.name for place in self._cached.places(self._root)}
        listed = self._listing.repositories() if self._lookup.is_online() else None
        names = {_repository(name) for name in known}
        return sorted(names | set(listed.names if listed else ()))

    def _tags(self, repository: str) -> list[str]:
        """Return the full names of the images of a repository; those that are known, if the
        registry does not answer or has no list of them.
        """
        if self._lookup.is_online():
            with suppress(Unreachable):
                tags = self._listing.tags(repository)
                if tags is UNTOLD:
                    return self._confirmed(self._known_tags(repository))
                return [f"{repository}:{tag}" for tag in tags]
        return self._known_tags(repository)

    def _known_tags(self, repository: str) -> list[str]:
        return [image.name for image in self._cached.all(repository) if _is_tag(image.name)]

    def _confirmed(self, names: Iterable[str]) -> list[str]:
        """Return those names that the registry has, or of which it does not tell."""
        found, errors = self._each(self.find, names)
        return [name for name in names if name in errors or found[name] is not None]

    def _resolved(self, repositories: Iterable[str]) -> list[Image]:
        """Return the images of repositories, but for those that cannot be looked up; raise the
        error of a repository if none can be listed.
        """
        tags, errors = self._each(self._tags, repositories)
        if errors and not tags:
            raise next(iter(errors.values()))
        names = [name for repository in tags for name in tags[repository]]
        images, more = self._each(self.find, names)
        self._leave_out({**errors, **more})
        return [image for _, image in sorted(images.items()) if image is not None]

    def _each(
        self, look_up: Callable[[str], _T], names: Iterable[str]
    ) -> tuple[dict[str, _T], dict[str, EngineError]]:
        """Look up names at once; return what was found, and the errors of the others. Raise an
        error that concerns more than one name.
        """
        found: dict[str, _T] = {}
        errors: dict[str, EngineError] = {}

        def attempt(name: str) -> None:
            try:
                found[name] = look_up(name)
            except (Unreachable, StoreBusy, StoreDamaged):
                raise
            except EngineError as error:
                errors[name] = error

        self._puller.at_once([partial(attempt, name) for name in names])
        return found, errors

    def _leave_out(self, errors: Mapping[str, EngineError]) -> None:
        """Log, once for each name, why it is not listed."""
        for name in errors.keys() - self._left_out:
            self._left_out.add(name)
            log.warning("%s is not listed: %s", printable(name), errors[name])

    def _full_repository(self, name: str) -> str | None:
        """Return the full name, in this registry, of a repository."""
        full = self._location.full_name(name)
        return reference.parse_normalized(full).name if full else None

    # The tree of directories

    def places(self, prefix: str = "") -> Iterator[TreeEntry]:
        """Yield the known images below a prefix, and with a prefix that ends in ":" every image of
        that repository.
        """
        if prefix.endswith(":"):
            with suppress(InvalidReference, InvalidDigest):
                repository = self._full_repository(prefix[:-1])
                for image in self._resolved([repository]) if repository else ():
                    yield self.place(image, f"{prefix}{image.name[len(f'{repository}:') :]}")
            return
        for place in self._cached.places(prefix):
            if place.name.startswith(self._root):
                yield place

    def listed(self, prefix: str) -> Iterator[tuple[str, TreeEntry | None]]:
        base = self._name_prefix(prefix)
        if not self._root.startswith(base) and not base.startswith(self._root):
            return
        direct: list[str] = []
        namespaces: set[str] = set()
        for repository in self._repositories():
            path = path_of(f"{repository}:x")[:-2] if base == prefix else repository
            if not path.startswith(base):
                continue
            first, slash, _ = path[len(base) :].partition("/")
            if slash:
                namespaces.add(first)
            else:
                direct.append(repository)
        entries: dict[str, TreeEntry | None] = dict.fromkeys(namespaces)
        tags, errors = self._each(self._tags, direct)
        if errors and not entries and not tags:
            raise next(iter(errors.values()))
        self._leave_out(errors)
        for repository in tags:
            known = {image.name: image for image in self._cached.all(repository)}
            start = path_of(f"{repository}:x")[len(base) : -1]
            for name in tags[repository]:
                entry_name = f"{start}{name[len(repository) + 1 :]}"
                path, image = f"{prefix}{entry_name}", known.get(name)
                entry = self.place(image, path) if image else TreeEntry(path, name, "", 0, 0)
                entries[entry_name] = entry
        yield from sorted(entries.items())

    def place_at(self, path: str) -> TreeEntry | None:
        """As `ImageStore.place_at`; what is named by a digest has no place of its own."""
        full = self._location.full_name(path)
        if full is None or not _is_tag(full):
            return None
        if path not in (path_of_or_none(full), full.removeprefix(self._root)):
            return None
        image = self.find(full)
        return self.place(image, path) if image else None

    def has_paths(self, prefix: str) -> bool:
        if not _is_tag(prefix):
            return False
        base = self._name_prefix(prefix)
        if self._root.startswith(base):
            return True
        if not base.startswith(self._root):
            return False
        if prefix.endswith(":"):
            return bool(self._tags(base[:-1]))
        if any(name.startswith(base) for name in self._repositories()):
            return True
        return self._lookup.is_online() and not self._listing.repositories().is_complete

    def newest(self, prefix: str) -> int:
        return self._cached.newest(prefix)

    def _name_prefix(self, prefix: str) -> str:
        """Return the start of full names for the start of paths, which may be below the root."""
        if not prefix or self._root.startswith(prefix) or prefix.startswith(self._root):
            return prefix
        full = self._location.full_name(prefix[:-1])
        return f"{full}{prefix[-1]}" if full else prefix

    # Targets

    def record(self, target: str, summary: Summary) -> None:
        self._cached.record(target, summary)

    def summary(self, target: str) -> Summary:
        return self._cached.summary(target)

    def target(self, digest: str) -> Target:
        return self._cached.target(digest)

    def manifests(self, target: str) -> tuple[ManifestSummary, ...]:
        return self._cached.manifests(target)

    def lacking(self, blobs: Iterable[str]) -> list[Descriptor]:
        return self._cached.lacking(blobs)

    def links(self, blobs: Iterable[str]) -> dict[str, int]:
        return self._cached.links(blobs)

    # Changes, which `Changes` takes to the registry at the end of a transaction

    def put(self, image: Image) -> Image:
        if image.is_untagged:
            return self._attach(image)
        check_name(image.name, image.target.digest)
        full = self._location.full_name(image.name)
        if full is None:
            raise InvalidReference(
                image.name, "name", f"expected a name of the registry, {self._root}…"
            )
        return super().put(replace(image, name=full))

    def _attach(self, image: Image) -> Image:
        """Store a referrer, which needs no name, in every repository that has its subject.

        Raise InvalidReference for any other image, and if no repository has it.
        """
        found = self._referrer_of(image.target)
        names = self._names_with(found.subject) if found else ()
        repositories = {_repository(name) for name in names}
        if not repositories:
            raise InvalidReference(
                image.name, "name", "an image in a registry needs a name; load it with a name"
            )
        digest = image.target.digest
        images = [replace(image, name=f"{each}@{digest}") for each in sorted(repositories)]
        attached = [super(RegistryImages, self).put(each) for each in images]
        return attached[0]

    def _names_with(self, subject: str) -> Iterator[str]:
        """Yield the full names of the images that are, or hold, a manifest."""
        yield from (image.name for image in self.names_of(subject))
        for name, image in self._changes.pending.items():
            if image is not None and subject in self.summary(image.target.digest).blobs:
                yield name

    def _keep(self, old: Image) -> None:
        """Let go of an image without a name: the registry decides how long it stays."""

    def _write(self, image: Image) -> None:
        self._changes.pending[image.name] = image

    def _erase(self, name: str) -> None:
        full = self._location.full_name(name)
        if full is not None:
            self._changes.pending[full] = None

    def _erase_record(self, target: str) -> None:
        self._cached.forget(target)

    def delete(self, name: str) -> Image:
        """As `ImageStore.delete`; raise Unsupported for a name by digest, but of a referrer."""
        with self._transaction():
            self._check_removal(self.get(name))
            return super().delete(name)

    def untag(self, name: str) -> Image:
        """As `ImageStore.untag`; raise Unsupported as `delete` does."""
        with self._transaction():
            self._check_removal(self.get(name))
            return super().untag(name)

    def _check_removal(self, image: Image) -> None:
        """Raise Unsupported for a name that is there as long as its manifest is: a registry that
        removes the manifest removes all its tags.
        """
        if not _is_tag(image.name) and self._referrer_of(image.target) is None:
            raise Unsupported(
                self._location.url,
                f"{image.familiar}: a name by digest cannot be removed; remove the image's tags",
            )

    def changed(self, changes: Mapping[str, Image | None]) -> None:
        """Note in the cache, in the caller's transaction, what the registry has accepted."""
        for kept in filter(None, changes.values()):
            with suppress(NotFound):  # another process has forgotten the target
                self._cached.keep(kept)
        for name, image in changes.items():  # once it is known which targets still have a name
            if image is None:
                self._removed(name)

    @contextmanager
    def doubting(self, changes: Mapping[str, Image | None]) -> Iterator[None]:
        """Ask the registry for names again unless they are sent, and the cache has them: if that
        fails, some may be changed.
        """
        try:
            yield
        except BaseException:
            self._listing.forget()
            raise
        finally:
            self._lookup.forget(changes)
        self._lookup.note(changes)

    def _removed(self, name: str) -> None:
        """Remove a name from the cache, and with the last tag of its repository that by digest."""
        old = self._cached.find(name)
        if old is None:
            return
        self._cached.drop(name)
        target, repository = old.target.digest, _repository(name)
        rest = [each.name for each in self._cached.names_of(target)]
        rest = [each for each in rest if _repository(each) == repository]
        if not any(map(_is_tag, rest)):
            for each in rest:
                self._cached.drop(each)
        self._cached.forget(target)


def _is_tag(name: str) -> bool:
    """Return whether a full name is not one by digest."""
    return "@" not in name


def _repository(name: str) -> str:
    """Return the repository of a full name, as a full name."""
    return reference.trim(reference.parse_normalized(name)).name


def path_of_or_none(name: str) -> str | None:
    """Return the path of a full name; None if it has no tag and no digest."""
    return None if reference.parse_normalized(name).is_name_only else path_of(name)

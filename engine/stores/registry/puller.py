"""Fetch the manifests and configs below a name, and note the places of the layers."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from functools import partial
from threading import Lock
from typing import Final

from engine import graph
from engine.errors import LimitExceeded, NotFound
from engine.graph import MAX_DEPTH
from engine.image import Image, Summary
from engine.spec import oci
from engine.spec.descriptor import Descriptor
from engine.spec.digest import parse
from engine.stores.local.store import LocalStore
from engine.stores.registry.api import Manifest, Reading
from engine.stores.registry.cached_images import CachedImages
from engine.stores.registry.content import RegistryContent
from engine.stores.registry.location import Location
from engine.stores.registry.sources import Source
from engine.threads import Workers

_AT_ONCE: Final = 8
_CONFIG: Final = 256 << 10
_MOST: Final = 10_000
"""Manifests below one name, each of which is a request; the largest indexes have some hundred."""


class Puller:
    """Records the images of a registry in the cache. Safe from any thread."""

    def __init__(
        self,
        reading: Reading,
        location: Location,
        cache: LocalStore,
        images: CachedImages,
        content: RegistryContent,
    ) -> None:
        self._reading = reading
        self._location = location
        self._cache = cache
        self._images = images
        self._content = content
        self._workers: Workers | None = None
        self._starting = Lock()

    def pull(self, name: str, is_wanted: Callable[[], bool]) -> Image | None:
        """Fetch what a full name stands for, layers excepted, and record it; raise NotFound.

        Return None, and leave the name as it is, if by then the answer is not wanted any more.
        """
        repository = self._location.repository(name)
        manifest = self._reading.manifest(repository, self._location.reference(name))
        target = manifest.descriptor
        found = self._images.find(name)
        if found is not None and found.target == target and self.is_learnt(found):
            return found
        self.learn(repository, manifest)
        summary = self._summary(target)
        with self._cache.transaction():
            if not is_wanted():
                return None
            self._images.record(target.digest, summary)
            return self._images.keep(Image(name, target))

    def is_learnt(self, image: Image) -> bool:
        """Return whether the cache knows what the registry has of a known image: it does not if its
        databases were repaired or made anew.
        """
        digest = image.target.digest
        if self._location.repository(image.name) not in self._content.repositories(digest):
            return False
        with suppress(NotFound):
            return not self._content.sizes(self._images.summary(digest).missing)
        return False

    def drop(self, name: str, is_wanted: Callable[[], bool]) -> None:
        """Remove a full name that the registry does not have, if that answer is still wanted."""
        with self._cache.transaction():
            if is_wanted():
                self._images.drop(name)

    def record(self, target: Descriptor) -> None:
        """Record what is below a target that was learnt."""
        self._images.record(target.digest, self._summary(target))

    def _summary(self, target: Descriptor) -> Summary:
        """Return what is to be recorded; this may fetch a large config, so no lock may be held."""
        return graph.summarize(graph.graph(self._content, target))

    def learn(self, repository: str, manifest: Manifest) -> None:
        """Keep a manifest and all manifests and configs below it, each once, and note where layers
        are. Raise LimitExceeded if there are too many.

        They are fetched level by level: those that are nearest to the root first.
        """
        root = manifest.descriptor.digest
        seen = {root}
        below = self._keep(repository, manifest)
        for _ in range(MAX_DEPTH):
            level = [each for digest, each in _first(below).items() if digest not in seen]
            seen.update(each.digest for each in level)
            if len(seen) > _MOST:
                raise LimitExceeded(root, "manifests below it", _MOST, len(seen))
            below = []
            self.at_once([partial(self._child, repository, each, below) for each in level])

    def _keep(self, repository: str, manifest: Manifest) -> Sequence[Descriptor]:
        """Keep a manifest with its config, and note where its layers are; return what an index
        lists.
        """
        target = manifest.descriptor
        self._content.keep(target.digest, manifest.data)
        below = graph.children(manifest.data, target)
        self._note(repository, [target], is_manifest=True)
        if oci.is_index_type(target.media_type):
            return below
        blobs = [each for each in below if not oci.is_nondistributable(each.media_type)]
        self._note(repository, blobs, is_manifest=False)
        if below and below[0].size <= _CONFIG:
            with suppress(NotFound):
                self._content.open(below[0].digest).close()
        return ()

    def _child(self, repository: str, descriptor: Descriptor, below: list[Descriptor]) -> None:
        """Learn a manifest of an index, and add what is below it; the registry need not have it."""
        if not oci.is_document_type(descriptor.media_type):
            self._note(repository, [descriptor], is_manifest=False)
            return
        with suppress(NotFound):
            below += self._keep(repository, self._manifest(repository, descriptor))

    def at_once(self, work: Sequence[Callable[[], None]]) -> None:
        """Do pieces of work concurrently, but one after the other in a transaction, whose lock
        other threads would wait for; raise the first error once all that were begun have ended.

        After an error no other is begun.
        """
        if len(work) < 2 or self._cache.database.in_transaction:
            for each in work:
                each()
            return
        with self._starting:
            workers = self._workers = self._workers or Workers(_AT_ONCE)
        errors: list[BaseException] = []

        def attempt(each: Callable[[], None]) -> None:
            try:
                if not errors:
                    each()
            except BaseException as error:
                errors.append(error)

        for result in [workers.begin(attempt, each) for each in work]:
            result()
        if errors:
            raise errors[0]

    def close(self) -> None:
        """End the threads."""
        if self._workers is not None:
            self._workers.close()

    def _manifest(self, repository: str, descriptor: Descriptor) -> Manifest:
        if self._cache.content.sizes([descriptor.digest]):
            with self._cache.content.open(parse(descriptor.digest)) as reader:
                return Manifest(descriptor, reader.pread(reader.size, 0))
        fetched = self._reading.manifest(repository, descriptor.digest)
        return Manifest(descriptor, fetched.data)

    def _note(self, repository: str, blobs: Sequence[Descriptor], is_manifest: bool) -> None:
        full = f"{self._location.host}/{repository}"
        self._content.note([Source(each.digest, full, each.size, is_manifest) for each in blobs])


def _first(descriptors: Iterable[Descriptor]) -> dict[str, Descriptor]:
    """Return the first descriptor of each digest."""
    found: dict[str, Descriptor] = {}
    for each in descriptors:
        found.setdefault(each.digest, each)
    return found

"""Fetch the manifests and configs below a name, and note the places of the layers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from typing import Final

from engine import graph
from engine.errors import EngineError, NotFound
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

    def pull(self, name: str) -> Image:
        """Fetch what a full name stands for, layers excepted, and record it; raise NotFound."""
        repository = self._location.repository(name)
        manifest = self._reading.manifest(repository, self._location.reference(name))
        target = manifest.descriptor
        found = self._images.find(name)
        if found is not None and found.target == target:
            return found
        self.learn(repository, manifest)
        summary = self._summary(target)
        with self._cache.transaction():
            self._images.record(target.digest, summary)
            return self._images.keep(Image(name, target))

    def record(self, target: Descriptor) -> None:
        """Record what is below a target that was learnt."""
        self._images.record(target.digest, self._summary(target))

    def _summary(self, target: Descriptor) -> Summary:
        """Return what is to be recorded; this may fetch a large config, so no lock may be held."""
        return graph.summarize(graph.graph(self._content, target))

    def learn(self, repository: str, manifest: Manifest, depth: int = 0) -> None:
        """Keep a manifest and all manifests and configs below it, and note where layers are."""
        target = manifest.descriptor
        self._content.keep(target.digest, manifest.data)
        below = graph.children(manifest.data, target)
        self._note(repository, [target], is_manifest=True)
        if oci.is_index_type(target.media_type):
            children = [partial(self._child, repository, each, depth + 1) for each in below]
            if depth == 0:
                self.at_once(children)
            elif depth < MAX_DEPTH:
                for child in children:  # this is one of the threads
                    child()
            return
        blobs = [each for each in below if not oci.is_nondistributable(each.media_type)]
        self._note(repository, blobs, is_manifest=False)
        if below and below[0].size <= _CONFIG:
            with suppress(NotFound):
                self._content.open(below[0].digest).close()

    def _child(self, repository: str, descriptor: Descriptor, depth: int) -> None:
        """Learn a manifest of an index; the registry need not have it."""
        if not oci.is_document_type(descriptor.media_type):
            self._note(repository, [descriptor], is_manifest=False)
            return
        with suppress(NotFound):
            self.learn(repository, self._manifest(repository, descriptor), depth)

    def at_once(self, work: Sequence[Callable[[], None]]) -> None:
        """Do pieces of work concurrently; raise the first error once all have ended."""
        if len(work) < 2:
            for each in work:
                each()
            return
        if self._workers is None:
            self._workers = Workers(_AT_ONCE)
        errors = []
        for result in [self._workers.begin(each) for each in work]:
            try:
                result()
            except EngineError as error:
                errors.append(error)
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

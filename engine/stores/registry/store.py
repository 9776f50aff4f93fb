"""A registry as a store.

Names are tags of the registry, blobs are its blobs. A local store is the cache, which registries
may share: what was read or written is in its content, what was looked up in its images, and the
tables of layers stay there when the layers are evicted.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager, ExitStack
from functools import partial
from pathlib import Path
from threading import Event

from engine.errors import StoreError
from engine.image import Image
from engine.stores.local.store import LocalStore
from engine.stores.protocols import NameLock, Store
from engine.stores.referrers import Referrer, manifests_of, stored_referrer
from engine.stores.registry.api import Reading
from engine.stores.registry.cached_images import CachedImages
from engine.stores.registry.changes import Changes
from engine.stores.registry.client import Client
from engine.stores.registry.content import RegistryContent
from engine.stores.registry.deletion import Deletion
from engine.stores.registry.events import RegistryEvents
from engine.stores.registry.eviction import Eviction
from engine.stores.registry.images import RegistryImages
from engine.stores.registry.location import Location, parse_location
from engine.stores.registry.puller import Puller
from engine.stores.registry.pusher import Pusher
from engine.stores.registry.referrers import Referrers
from engine.stores.registry.sources import Sources
from engine.stores.registry.table_maker import TableMaker
from engine.stores.registry.uploads import Uploads
from engine.stores.user_cache import user_cache


class RegistryStore(Store):
    """A `Store` over a registry. Safe from any thread."""

    content: RegistryContent
    images: RegistryImages

    def __init__(self, location: Location, client: Client | None = None) -> None:
        """Open the cache; the registry is not asked yet. Raise StoreError."""
        self.location = location.url
        self._closing = Event()
        self.directory = Path(location.cache or user_cache() / "registry")
        with ExitStack() as opened:
            cache = self._cache = opened.enter_context(LocalStore.create(self.directory))
            sources = opened.enter_context(Sources(self.directory, location.root))
            self._opened = opened.pop_all()
        client = client or Client(location, self._pause)
        reading = Reading(client)
        eviction = Eviction(cache.content, sources, location.cache_size)

        def send(changes: Mapping[str, Image | None]) -> None:
            pusher.send(changes)
            eviction.run()

        self._changes = Changes(
            cache.transaction,
            send,
            lambda each: self.images.doubting(each),
            lambda each: self.images.changed(each),
        )
        known = CachedImages(cache.database)
        tables = TableMaker(cache, lambda: self.content.is_fetching)
        self.content = RegistryContent(
            cache.content, sources, reading, location, eviction, self.transaction, tables.add
        )
        self._opened.callback(tables.close)
        self._opened.callback(self.content.close)
        puller = Puller(reading, location, cache, known, self.content)
        self._opened.callback(puller.close)
        self.tables = cache.tables
        self.leases = cache.leases
        self.events = RegistryEvents(cache.events, self._changes)
        self.name_lock = NameLock()
        self.images = RegistryImages(
            known,
            reading,
            location,
            puller,
            self._changes,
            self.events,
            self.transaction,
            partial(stored_referrer, self.content),
        )
        uploads = Uploads(client, reading)
        self._referrers = Referrers(reading, uploads, puller)
        pusher = Pusher(
            uploads,
            Deletion(reading, puller, uploads),
            location,
            self.content,
            sources,
            known,
            puller,
            self._referrers,
        )

    @classmethod
    def at(cls, url: str) -> RegistryStore:
        """Return the store of a URL; raise StoreError if the URL or its cache cannot be used."""
        return cls(parse_location(url))

    def referrers(self, image: Image) -> list[Referrer]:
        subjects = manifests_of(self, image)
        repositories = self.content.repositories(image.target.digest)
        return self._referrers.pull(repositories, subjects)

    def transaction(self) -> AbstractContextManager[object]:
        return self._changes.transaction()

    def version(self) -> int:
        return self._cache.version()

    def _pause(self, seconds: float) -> None:
        """Wait before a request is repeated; raise StoreError as soon as the store is closed."""
        if self._closing.wait(seconds):
            raise StoreError(self.location, "is being closed")

    def close(self) -> None:
        self._closing.set()
        self._opened.close()

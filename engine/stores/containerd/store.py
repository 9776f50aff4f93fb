"""A containerd as a store.

Names are the images of one namespace, blobs its content. A directory in the user's cache holds the
tables of layers, and what is being written where containerd's own directory cannot be written.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack, suppress
from pathlib import Path
from typing import Final

from engine.errors import StoreError, printable
from engine.spec.descriptor import Descriptor
from engine.stores.containerd.api import Content, Images, Leases, Server
from engine.stores.containerd.client import Client
from engine.stores.containerd.content import ContainerdContent
from engine.stores.containerd.events import ContainerdEvents, RecentEvents
from engine.stores.containerd.images import ContainerdImages
from engine.stores.containerd.leases import ContainerdLeases
from engine.stores.containerd.location import (
    DOCKER,
    KUBERNETES,
    Location,
    find_socket,
    parse_location,
)
from engine.stores.containerd.mirror import Mirror, Remembered
from engine.stores.containerd.names import Names, Reading
from engine.stores.containerd.summaries import Summaries
from engine.stores.containerd.transactions import Transactions
from engine.stores.containerd.watch import Watch
from engine.stores.local.files import make_directory
from engine.stores.local.tables import LocalTables
from engine.stores.protocols import NameLock, Store
from engine.stores.user_cache import user_cache

_FIRST: Final = ("default", KUBERNETES, DOCKER)
"""The namespaces that are looked at first if none is named."""


class ContainerdStore(Store):
    """A `Store` over a containerd. Safe from any thread."""

    content: ContainerdContent
    images: ContainerdImages
    leases: ContainerdLeases
    tables: LocalTables

    def __init__(self, location: Location, client: Client, cache: Path) -> None:
        """Use `open` or `create`; `client` has a namespace, `cache` is the user's directory."""
        self.location = location.url
        server, images = Server(client), Images(client)
        content, leases = Content(client), Leases(client)
        self.directory = _directory(cache, server.uuid(), client.namespace)
        exported = server.exports("io.containerd.content.v1", "content").get("root")
        root = Path(exported) if exported else None  # containerd makes it with the first blob
        self._disk = next((path for path in root.parents if path.is_dir()), root) if root else None
        metadata = server.exports("io.containerd.metadata.v1", "bolt").get("path")
        watch = Watch(server, Path(metadata) if metadata else None)
        mirror = Mirror(images, content, watch)
        self.leases = ContainerdLeases(leases, mirror)
        with ExitStack() as opened:
            opened.callback(watch.close)
            opened.callback(self.leases.close)
            opened.callback(client.close)  # first, since it ends what the others would wait for
            self._watch = watch
            recent = RecentEvents()
            self._transactions = Transactions(images, leases, mirror.images, watch, recent.extend)
            self.content = ContainerdContent(
                self.location,
                content,
                mirror.blobs,
                root,
                self.directory,
                self.leases,
                watch,
                self._transactions,
            )
            opened.callback(self.content.close)
            self.tables = LocalTables(self.directory)
            self.events = ContainerdEvents(recent, self._transactions)
            self.name_lock = NameLock()
            reading = Reading()
            self.images = ContainerdImages(
                client.namespace,
                Remembered(lambda: Names(reading, mirror.images.get().values()), watch),
                Summaries(self.content, mirror.blobs, self._root_of),
                self._transactions,
                self.events,
            )
            self._opened = opened.pop_all()

    @classmethod
    def open(cls, url: str) -> ContainerdStore:
        """Return the store of a URL, whose namespace must be there; raise StoreError."""
        return cls._at(url, _check_namespace)

    @classmethod
    def create(cls, url: str) -> ContainerdStore:
        """Return the store of a URL, whose namespace is made if need be. Drop what killed processes
        have left there, and the tables of layers that are gone. Raise StoreError.
        """
        store = cls._at(url, _make_namespace)
        with suppress(StoreError, OSError):
            store.content.drop_abandoned()
            store.leases.drop_abandoned()
            store.drop_tables()
        return store

    @classmethod
    def _at(cls, url: str, enter: Callable[[Location, Server], None]) -> ContainerdStore:
        location = parse_location(url)
        client = Client(url, find_socket(location))
        try:
            server = Server(client)
            client.namespace = location.namespace or _namespace_with_images(client, server)
            if location.namespace:
                enter(location, server)
            return cls(location, client, user_cache())
        except BaseException:
            client.close()
            raise

    def drop_tables(self) -> None:
        """Remove the tables of layers that containerd does not have any more; raise OSError."""
        tables = {table.digest: table.path for table in self.tables.files()}
        known = self.content.sizes(filter(None, tables))
        for digest, path in tables.items():
            if digest not in known:
                path.unlink(missing_ok=True)

    def transaction(self) -> AbstractContextManager[object]:
        return self._transactions.begin()

    @property
    def disk(self) -> Path:
        return self._disk or self.directory

    def version(self) -> int:
        return self._watch.version()

    def close(self) -> None:
        self._opened.close()

    def _root_of(self, target: str) -> Descriptor | None:
        return self.images.descriptor(target)


def _namespace_with_images(client: Client, server: Server) -> str:
    """Return the namespace whose images are meant if none is named."""
    for name in sorted(server.namespaces(), key=lambda name: (name not in _FIRST, name)):
        client.namespace = name
        if Images(client).all():
            return name
    return _FIRST[0]


def _check_namespace(location: Location, server: Server) -> None:
    known = server.namespaces()
    if location.namespace in known:
        return
    if location.is_docker:
        raise StoreError(
            location.url,
            "docker keeps no images in this containerd; switch on its containerd image store"
            ' ("features": {"containerd-snapshotter": true} in daemon.json)',
        )
    there = ", ".join(known) or "none"
    reason = f"expected a namespace, found no {printable(location.namespace)}; there are: {there}"
    raise StoreError(location.url, reason)


def _make_namespace(location: Location, server: Server) -> None:
    if location.is_docker:
        _check_namespace(location, server)
    else:
        server.add_namespace(location.namespace)


def _directory(cache: Path, containerd: str, namespace: str) -> Path:
    """Return our directory for a namespace of a containerd, which is made."""
    parts = ("containerd", containerd, namespace)
    try:
        cache.mkdir(mode=0o700, parents=True, exist_ok=True)
        for part in parts:
            cache = cache / part
            make_directory(cache)
    except OSError as error:
        raise StoreError(str(cache), f"cannot be made: {error.strerror}") from error
    return cache

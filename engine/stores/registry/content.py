"""The content of a registry: blobs of the cache, and those that can be fetched into it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from threading import Lock
from typing import Final

from engine.content.memory import MemoryReader
from engine.content.protocols import Committed, Info, ReaderAt, Status
from engine.content.writer import Writer
from engine.errors import (
    AccessDenied,
    ContentMismatch,
    DigestMismatch,
    EngineError,
    NotFound,
    SizeMismatch,
)
from engine.spec.digest import Digest, of_bytes, parse
from engine.stores.content import ContentStore, merged
from engine.stores.local.content import LocalContent
from engine.stores.registry.api import Reading
from engine.stores.registry.client import stated_number
from engine.stores.registry.download import NO_SPACE, Download
from engine.stores.registry.eviction import Eviction
from engine.stores.registry.location import Location
from engine.stores.registry.reader import RemoteReader
from engine.stores.registry.remote_blob import RemoteBlob
from engine.stores.registry.sources import Source, Sources

_SMALL: Final = 256 << 10
"""Bytes of a blob that is fetched before it is opened."""


class RegistryContent(ContentStore):
    """The blobs of the images that were looked up. Writing is into the cache."""

    def __init__(
        self,
        cache: LocalContent,
        sources: Sources,
        reading: Reading,
        location: Location,
        eviction: Eviction,
        transaction: Callable[[], AbstractContextManager[object]],
        on_fetched: Callable[[str], None],
    ) -> None:
        """`on_fetched` is called with the digest of each large blob that has come."""
        self._cache = cache
        self._sources = sources
        self._reading = reading
        self._location = location
        self._eviction = eviction
        self._begin = transaction
        self._on_fetched = on_fetched
        self._lock = Lock()
        self._downloads: dict[str, Download] = {}
        self._ending: set[Download] = set()
        """Those that a new one has replaced while their threads end."""

    def close(self) -> None:
        """End the downloads."""
        with self._lock:
            running = [*self._downloads.values(), *self._ending]
        for download in running:
            download.stop()
        for download in running:
            download.wait()

    def _transaction(self) -> AbstractContextManager[object]:
        return self._begin()

    @property
    def is_fetching(self) -> bool:
        """Whether a large blob is on its way."""
        return any(each.is_started for each in [*self._downloads.values()])

    def open(self, digest: str) -> ReaderAt:
        """Open a blob as `Provider.open` does.

        A large one that is not in the cache is fetched by the first reader that starts at its
        beginning, and served as it comes.
        """
        return self._open(digest, is_whole=True)

    def open_for_parts(self, digest: str) -> ReaderAt:
        """Open a blob of which only parts may be read: a large one is fetched whole only after many
        of them.
        """
        return self._open(digest, is_whole=False)

    def _open(self, digest: str, is_whole: bool) -> ReaderAt:
        name = parse(digest)
        while True:
            if (cached := self._cached(name)) is not None:
                return cached
            sources = self._sources.find(name)
            if not sources:
                raise NotFound("blob", digest)
            if sources[0].size <= _SMALL or any(source.is_manifest for source in sources):
                return self._fetch(sources)
            download = self._download(sources[0])
            if download is not None and download.join():
                return RemoteReader(download, self._reading, is_whole)

    def _cached(self, digest: Digest) -> ReaderAt | None:
        if not self._cache.exists(digest):
            return None
        try:
            reader = self._cache.open(digest)
        except NotFound:  # evicted in the meantime
            return None
        self._sources.use(digest)
        return reader

    def _download(self, source: Source) -> Download | None:
        """Return the running download of a blob, or a new one; None if the blob has come."""
        digest = source.digest
        with self._lock:
            found = self._downloads.get(digest)
            if found is None or found.has_ended or found.blob.size != source.size:
                if self._cache.exists(digest):
                    return None
                previous = found if found is not None and found.has_ended else None
                if found is not None:
                    self._ending.add(found)
                blob = RemoteBlob(self._reading, self._location, self._sources, source)
                found = Download(self._reading, self._cache, blob, self._has_come, previous)
                self._downloads[digest] = found
            return found

    def _has_come(self, download: Download) -> None:
        digest = download.blob.digest
        try:
            self._sources.use(digest)
            self._eviction.run()
            self._on_fetched(digest)
        finally:
            with self._lock:  # last, since closing the store waits for those that are listed
                self._ending.discard(download)
                if self._downloads.get(digest) is download:
                    del self._downloads[digest]

    def note(self, sources: Sequence[Source]) -> None:
        """Remember sources of blobs. Where one states another size than a known one does, the
        registry tells which is right: the others are forgotten; raise SizeMismatch for a new one.
        If it does not tell, both are kept; a new one that does not have its blob is not.
        """
        disputed = self._sources.disputed(sources)
        lacking = {source for source in disputed if not self._has_settled(source)}
        self._sources.add(each for each in sources if each not in lacking)

    def _has_settled(self, source: Source) -> bool:
        """Forget the sources that state a wrong size of a blob, if a new one states the right one;
        return whether this has the blob. Raise SizeMismatch if it states a wrong one.
        """
        try:
            size = self._true_size(source)
        except NotFound:
            return False
        if size is not None and size != source.size:
            raise SizeMismatch(f"blob {source.digest}", source.size, size)
        if size is not None:
            self._sources.settle(source.digest, source.size)
        return True

    def _true_size(self, source: Source) -> int | None:
        """Return the size of a blob in the cache, else of what the registry sends, if it says so;
        raise NotFound.
        """
        cached = self._cache.sizes([source.digest])
        if cached:
            return cached[source.digest]
        repository = self._location.repository(source.repository)
        response = self._reading.blob(repository, source.digest, 0, -1)
        response.close()  # without its body
        return stated_number(response, "Content-Length")

    def repositories(self, digest: str) -> list[str]:
        """Return the repositories, as the registry knows them, that have a blob."""
        return [
            self._location.repository(source.repository)
            for source in self._sources.find(parse(digest))
        ]

    def _fetch(self, sources: Sequence[Source]) -> ReaderAt:
        """Open a small blob of the first repository that gives it, and put it into the cache if
        that has space; forget repositories that do not have it.

        Raise AccessDenied, ContentMismatch, or NotFound if none has it.
        """
        wrong: EngineError | None = None
        for source in sources:
            try:
                data = self._document(source)
            except NotFound:
                self._sources.remove(source.digest, source.repository)
            except (AccessDenied, ContentMismatch) as error:
                wrong = wrong or error
            else:
                self._try_to_keep(source.digest, data)
                return MemoryReader(data)
        raise wrong or NotFound("blob", sources[0].digest)

    def _document(self, source: Source) -> bytes:
        """Return a small blob; raise NotFound, AccessDenied, DigestMismatch."""
        repository = self._location.repository(source.repository)
        if source.is_manifest:
            return self._reading.manifest(repository, source.digest).data
        response = self._reading.blob(repository, source.digest, 0, -1)
        data = self._reading.client.document(response)
        wanted = parse(source.digest)
        if (found := of_bytes(data, wanted.algorithm)) != wanted:
            raise DigestMismatch(f"blob {wanted}", wanted, found, len(data))
        return data

    def _try_to_keep(self, digest: str, data: bytes) -> None:
        try:
            self.keep(digest, data)
        except OSError as error:
            if error.errno not in NO_SPACE:
                raise

    def keep(self, digest: str, data: bytes) -> None:
        """Put a blob into the cache; raise DigestMismatch."""
        with self._cache.unnamed_writer(len(data), digest) as writer:
            writer.write(data)
            writer.commit()
        self._sources.use(digest)

    # Metadata

    def sizes(self, digests: Iterable[str]) -> Mapping[str, int]:
        wanted = list(digests)
        return {**self._sources.sizes(wanted), **self._cache.sizes(wanted)}

    def exists(self, digest: str) -> bool:
        return self._cache.exists(digest) or bool(self._sources.find(parse(digest)))

    def info(self, digest: str) -> Info:
        name = parse(digest)
        if self._cache.sizes([name]):
            return self._cache.info(digest)
        sources = self._sources.find(name)
        if not sources:
            raise NotFound("blob", digest)
        return Info(name, sources[0].size, 0.0, 0.0, {})

    def walk(self, wanted: Callable[[Info], bool] | None = None) -> Iterator[Info]:
        """Yield the blobs of the cache."""
        return self._cache.walk(wanted)

    def labelled(self, key: str, value: str) -> list[Info]:
        return self._cache.labelled(key, value)

    def update(self, digest: str, labels: Mapping[str, str]) -> Info:
        """Update the labels of a cached blob; those of others are not kept."""
        if self._cache.sizes([parse(digest)]):
            return self._cache.update(digest, labels)
        info = self.info(digest)
        return Info(info.digest, info.size, 0.0, 0.0, merged(info.labels, labels))

    def delete(self, digest: str) -> None:
        """Remove a blob from the cache; raise NotFound if it is not there."""
        self._cache.delete(digest)

    # Writing

    def writer(
        self, ref: str, size: int = 0, expected: str | None = None, algorithm: str = "sha256"
    ) -> Writer:
        return self._cache.writer(ref, size, expected, algorithm)

    def unnamed_writer(
        self, size: int = 0, expected: str | None = None, algorithm: str = "sha256"
    ) -> Writer:
        return self._cache.unnamed_writer(size, expected, algorithm)

    def prepare(self, writers: Iterable[Writer]) -> None:
        self._cache.prepare(writers)

    def publish(self, writers: Sequence[tuple[Writer, Mapping[str, str]]]) -> list[Committed]:
        return self._cache.publish(writers)

    def _take(self, writers: Sequence[tuple[Writer, Mapping[str, str]]]) -> list[Committed]:
        return self._cache.publish(writers)

    def statuses(self) -> list[Status]:
        return self._cache.statuses()

    def abort(self, ref: str) -> None:
        self._cache.abort(ref)

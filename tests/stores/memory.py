"""A store that keeps everything in memory: the least that the protocols of a store ask for."""

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from threading import RLock
from typing import Self
from uuid import uuid4

import msgspec
from msgspec.structs import replace

from engine.content.protocols import NO_LABELS, Bytes, Committed, Info, Status, Writer
from engine.errors import (
    AlreadyExists,
    Ambiguous,
    DigestMismatch,
    NotFound,
    SizeMismatch,
    StoreError,
    Unavailable,
)
from engine.image import (
    Image,
    ManifestSummary,
    Summary,
    Target,
    TreeEntry,
    check_name,
    path_of,
)
from engine.spec import go_json
from engine.spec.descriptor import Descriptor
from engine.spec.digest import Digest, hasher, of_bytes, parse
from engine.stores.records import EVENTS_KEPT, Event, Garbage, Lease


def _nothing(_: Image) -> None:
    pass


class Tables(msgspec.Struct):
    """What a transaction changes. The values are immutable, so that a shallow copy will do."""

    blobs: dict[str, tuple[Info, bytes]] = {}
    images: dict[str, Image] = {}
    targets: dict[str, Summary] = {}
    leases: dict[str, frozenset[Digest]] = {}
    events: list[Event] = []

    def copy(self) -> "Tables":
        return Tables(*(getattr(self, field).copy() for field in self.__struct_fields__))


class Memory:
    """The tables, and the lock under which every thread reads and changes them."""

    def __init__(self) -> None:
        self.tables = Tables()
        self.lock = RLock()
        self.version = 0

    @contextmanager
    def transaction(self) -> Iterator[Tables]:
        with self.lock:
            before = self.tables.copy()
            try:
                yield self.tables
            except BaseException:
                self.tables = before
                raise
            finally:
                self.version += 1


class Closing:
    """A context manager that closes at its end."""

    def close(self) -> None:
        pass

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class MemoryReader(Closing):
    """A `ReaderAt`."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self.size = len(data)

    def pread(self, length: int, offset: int) -> bytes:
        return self._data[offset : offset + length]

    def fileno(self) -> None:
        return None


class Ingest:
    """The bytes of an ingest and what is expected of them."""

    def __init__(self, ref: str, algorithm: str) -> None:
        self.ref = ref
        self.data = bytearray()
        self.total = 0
        self.expected: Digest | None = None
        self.algorithm = algorithm
        self.started_at = self.updated_at = time.time()
        self.is_held = False

    def expect(self, total: int, expected: Digest | None) -> None:
        if self.total and total and self.total != total:
            raise SizeMismatch(self.ref, self.total, total)
        if self.expected and expected and self.expected != expected:
            raise DigestMismatch(self.ref, self.expected, expected)
        self.total = self.total or total
        self.expected = self.expected or expected
        if self.expected:
            self.algorithm = self.expected.algorithm

    def digest(self) -> Digest:
        return of_bytes(self.data, self.algorithm)

    def status(self) -> Status:
        offset, times = len(self.data), (self.started_at, self.updated_at)
        return Status(self.ref, offset, self.total, self.expected, *times)


class MemoryWriter(Closing):
    """A `Writer`."""

    def __init__(self, content: "MemoryContent", ingest: Ingest) -> None:
        self._content = content
        self._ingest = ingest
        self._is_open = True

    @property
    def ingest(self) -> Ingest:
        if not self._is_open:
            raise ValueError(f"the ingest {self._ingest.ref} has ended")
        return self._ingest

    def write(self, data: Bytes) -> int:
        added = memoryview(data).tobytes()
        self.ingest.data += added
        self.ingest.updated_at = time.time()
        return len(added)

    def pread(self, length: int, offset: int) -> bytes:
        return bytes(self.ingest.data[offset : offset + length])

    def digest(self) -> Digest:
        return self._ingest.digest()

    def status(self) -> Status:
        return self.ingest.status()

    def truncate(self, size: int) -> None:
        offset = len(self.ingest.data)
        if not 0 <= size <= offset:
            raise ValueError(f"cannot keep {size} of {offset} bytes")
        del self.ingest.data[size:]
        self.ingest.updated_at = time.time()

    def verify(self) -> None:
        status = self.ingest.status()
        if status.total not in (0, status.offset):
            raise SizeMismatch(status.ref, status.total, status.offset)
        if status.expected not in (None, self.digest()):
            raise DigestMismatch(status.ref, status.expected, self.digest())

    def commit(
        self, size: int = 0, expected: str | None = None, labels: Mapping[str, str] = NO_LABELS
    ) -> Committed:
        try:
            offset = len(self.ingest.data)
            if size not in (0, offset):
                raise SizeMismatch(self.ingest.ref, size, offset)
            self.ingest.expect(size, parse(expected) if expected else None)
            return self._content.publish([(self, labels)])[0]
        finally:
            self.abort()

    def abort(self) -> None:
        if self._is_open:
            self._content.drop(self._ingest)
        self.close()

    def close(self) -> None:
        if self._is_open:
            self._is_open = self._ingest.is_held = False


class MemoryContent:
    """A `ContentStore`."""

    def __init__(self, memory: Memory) -> None:
        self._memory = memory
        self._ingests: dict[str, Ingest] = {}

    def open(self, digest: str) -> MemoryReader:
        return MemoryReader(self._get(digest)[1])

    def exists(self, digest: str) -> bool:
        return bool(self.sizes([parse(digest)]))

    def sizes(self, digests: Iterable[str]) -> dict[str, int]:
        with self._memory.lock:
            blobs = self._memory.tables.blobs
            return {digest: blobs[digest][0].size for digest in digests if digest in blobs}

    def info(self, digest: str) -> Info:
        return self._get(digest)[0]

    def walk(self, wanted: Callable[[Info], bool] | None = None) -> Iterator[Info]:
        with self._memory.lock:
            infos = [info for _, (info, _) in sorted(self._memory.tables.blobs.items())]
        return (info for info in infos if wanted is None or wanted(info))

    def labelled(self, key: str, value: str) -> list[Info]:
        return list(self.walk(lambda info: info.labels.get(key) == value))

    def update(self, digest: str, labels: Mapping[str, str]) -> Info:
        with self._memory.transaction() as tables:
            info, data = self._get(digest)
            kept = _kept({**info.labels, **labels})
            if kept != info.labels:
                info = replace(info, labels=kept, updated_at=time.time())
                tables.blobs[digest] = info, data
            return info

    def delete(self, digest: str) -> None:
        with self._memory.transaction() as tables:
            self._get(digest)
            del tables.blobs[digest]

    def writer(
        self, ref: str, size: int = 0, expected: str | None = None, algorithm: str = "sha256"
    ) -> MemoryWriter:
        with self._memory.lock:
            ingest = self._ingests.get(ref) or _new(ref, algorithm)
            if ingest.is_held:
                raise Unavailable("ingest", ref)
            ingest.expect(size, parse(expected) if expected else None)
            ingest.is_held = True
            self._ingests[ref] = ingest
        return MemoryWriter(self, ingest)

    def unnamed_writer(
        self, size: int = 0, expected: str | None = None, algorithm: str = "sha256"
    ) -> MemoryWriter:
        ingest = _new("a new blob", algorithm)
        ingest.expect(size, parse(expected) if expected else None)
        return MemoryWriter(self, ingest)

    def prepare(self, writers: Iterable[Writer]) -> None:
        for writer in writers:
            _own(writer).verify()

    def publish(self, writers: Sequence[tuple[Writer, Mapping[str, str]]]) -> list[Committed]:
        try:
            self.prepare(writer for writer, _ in writers)
            with self._memory.transaction():
                return [self._take(_own(writer).ingest, labels) for writer, labels in writers]
        finally:
            for writer, _ in writers:
                writer.abort()

    def status(self, ref: str) -> Status:
        with self._memory.lock:
            if ref not in self._ingests:
                raise NotFound("ingest", ref)
            return self._ingests[ref].status()

    def statuses(self) -> list[Status]:
        with self._memory.lock:
            return [ingest.status() for _, ingest in sorted(self._ingests.items())]

    def abort(self, ref: str) -> None:
        with self._memory.lock:
            self.status(ref)
            if self._ingests[ref].is_held:
                raise Unavailable("ingest", ref)
            del self._ingests[ref]

    def _get(self, digest: str) -> tuple[Info, bytes]:
        with self._memory.lock:
            found = self._memory.tables.blobs.get(parse(digest))
        if found is None:
            raise NotFound("blob", digest)
        return found

    def drop(self, ingest: Ingest) -> None:
        """Remove an ingest, if it can be resumed."""
        with self._memory.lock:
            if self._ingests.get(ingest.ref) is ingest:
                del self._ingests[ingest.ref]

    def _take(self, ingest: Ingest, labels: Mapping[str, str]) -> Committed:
        digest, now = ingest.digest(), time.time()
        if self.exists(digest):
            return Committed(self.update(digest, labels), added=False)
        info = Info(digest, len(ingest.data), now, now, _kept(labels))
        self._memory.tables.blobs[digest] = info, bytes(ingest.data)
        return Committed(info, added=True)


class MemoryImages:
    """An `ImageStore`. Everything but names and summaries is computed when it is asked for."""

    def __init__(self, memory: Memory, events: "MemoryEvents") -> None:
        self._memory = memory
        self._events = events

    def create(self, image: Image) -> Image:
        with self._memory.transaction():
            if self.find(image.name):
                raise AlreadyExists("image", image.name)
            stored = self._insert(image)
            self._tell("tag", stored)
            return stored

    def update(self, image: Image) -> Image:
        with self._memory.transaction():
            old = self.get(image.name)
            stored = self._insert(image, old.created_at)
            if old.target.digest != stored.target.digest:
                self._keep_untagged(old)
                self._tell("tag", stored)
            return stored

    def put(self, image: Image) -> Image:
        with self._memory.transaction():
            return self.update(image) if self.find(image.name) else self.create(image)

    def delete(self, name: str) -> Image:
        with self._memory.transaction():
            image = self._remove(name)
            if not self.is_named(image.target.digest):
                self._events.add("delete", image.target.digest)
            return image

    def untag(self, name: str) -> Image:
        with self._memory.transaction():
            return self._remove(name, self._keep_untagged)

    def get(self, name: str) -> Image:
        image = self.find(name)
        if image is None:
            raise NotFound("image", name)
        return image

    def find(self, name: str) -> Image | None:
        with self._memory.lock:
            return self._memory.tables.images.get(name)

    def all(self, repository: str = "") -> list[Image]:
        with self._memory.lock:
            images = [image for _, image in sorted(self._memory.tables.images.items())]
        starts = (f"{repository}:", f"{repository}@")
        return [i for i in images if not repository or i.name.startswith(starts)]

    def names_of(self, target: str) -> list[Image]:
        return [image for image in self.all() if image.target.digest == target]

    def by_id(self, prefix: str) -> list[Image]:
        algorithm, _, encoded = prefix.rpartition(":")
        if not encoded or not set(encoded) <= set("0123456789abcdef"):
            raise NotFound("image", prefix)
        images = {image.target.digest for image in self.all()}
        known = {(target, m.config) for target in images for m in self.manifests(target)}
        known |= {(target, target) for target in images}
        start = f"{algorithm or 'sha256'}:{encoded}"
        found = {(target, id_) for target, id_ in known if id_.startswith(start)}
        targets, ids = {target for target, _ in found}, {id_ for _, id_ in found}
        if not found:
            raise NotFound("image", prefix)
        if len(ids) > 1 and len(targets) > 1:
            raise Ambiguous(prefix, tuple(sorted(ids)))
        return [image for target in sorted(targets) for image in self.names_of(target)]

    def is_named(self, target: str) -> bool:
        return bool(self.names_of(target))

    def count(self) -> int:
        return len(self.all())

    def at(self, path: str) -> Image | None:
        place = self.place_at(path)
        return self.find(place.name) if place else None

    def has_paths(self, prefix: str) -> bool:
        return any(self.places(prefix))

    def places(self, prefix: str = "") -> Iterator[TreeEntry]:
        with self._memory.lock:
            images = [(image, path_of(image.name)) for image in self.all()]
            registries = {path.partition("/")[0] for _, path in images if "/" in path}
            places = [
                self.place(image, image.name if path in registries else path)
                for image, path in images
            ]
        found = (place for place in places if place.path.startswith(prefix))
        return iter(sorted(found, key=lambda place: place.path))

    def place_at(self, path: str) -> TreeEntry | None:
        return next((place for place in self.places(path) if place.path == path), None)

    def place(self, image: Image, path: str) -> TreeEntry:
        known = self.target(image.target.digest)
        target = go_json.dumps(image.target).decode()
        return TreeEntry(path, image.name, target, known.revision, known.created)

    def newest(self, prefix: str) -> int:
        return max((place.created for place in self.places(prefix)), default=0)

    def record(self, target: str, summary: Summary) -> None:
        with self._memory.transaction() as tables:
            blobs, missing = (tuple(sorted(s)) for s in (summary.blobs, summary.missing))
            tables.targets[target] = replace(summary, blobs=blobs, missing=missing)

    def forget(self, target: str) -> None:
        with self._memory.transaction() as tables:
            if not self.is_named(target):
                tables.targets.pop(target, None)

    def lacking(self, blobs: Iterable[str]) -> list[Descriptor]:
        wanted = set(blobs)
        images = {image.target.digest: image.target for image in self.all()}
        return [images[t] for t in sorted(images) if wanted & {*self.summary(t).missing}]

    def target(self, digest: str) -> Target:
        summary = self.summary(digest)
        return Target(digest, summary.revision, summary.created)

    def summary(self, target: str) -> Summary:
        with self._memory.lock:
            if target not in self._memory.tables.targets:
                raise NotFound("image", target)
            return self._memory.tables.targets[target]

    def manifests(self, target: str) -> tuple[ManifestSummary, ...]:
        with self._memory.lock:
            found = self._memory.tables.targets.get(target)
        return found.manifests if found else ()

    def links(self, blobs: Iterable[str]) -> dict[str, int]:
        with self._memory.lock:
            held = [self.summary(image.target.digest).blobs for image in self.all()]
        return {blob: sum(blob in each for each in held) for blob in blobs}

    def _insert(self, image: Image, created_at: float | None = None) -> Image:
        self.target(image.target.digest)
        check_name(image.name, image.target.digest)
        now = time.time()
        stored = replace(image, created_at=created_at or now, updated_at=now)
        with self._memory.transaction() as tables:
            tables.images[image.name] = stored
            if not image.is_untagged:
                tables.images.pop(image.target.digest, None)
        return stored

    def _keep_untagged(self, old: Image) -> None:
        if not self.is_named(old.target.digest):
            self._insert(replace(old, name=old.target.digest), old.created_at)

    def _remove(self, name: str, before_forgetting: Callable[[Image], None] = _nothing) -> Image:
        image = self.get(name)
        with self._memory.transaction() as tables:
            del tables.images[name]
            if not image.is_untagged:
                before_forgetting(image)
            self.forget(image.target.digest)
            self._tell("untag", image)
        return image

    def _tell(self, action: str, image: Image) -> None:
        if not image.is_untagged:
            self._events.add(action, image.target.digest, image.name)


class MemoryLeases:
    """A `LeaseManager`."""

    def __init__(self, memory: Memory) -> None:
        self._memory = memory

    @contextmanager
    def hold(self, labels: Mapping[str, str] = NO_LABELS) -> Iterator[Lease]:
        lease = Lease(uuid4().hex, time.time(), None, dict(labels))
        with self._memory.transaction() as tables:
            tables.leases[lease.id] = frozenset()
        try:
            yield lease
        finally:
            with self._memory.transaction() as tables:
                tables.leases.pop(lease.id, None)

    def add(self, lease_id: str, digest: str) -> None:
        with self._memory.transaction() as tables:
            if lease_id not in tables.leases:
                raise NotFound("lease", lease_id)
            tables.leases[lease_id] |= {parse(digest)}


class MemoryEvents:
    """An `EventLog`."""

    def __init__(self, memory: Memory) -> None:
        self._memory = memory

    def add(self, action: str, target: str, name: str = "", reclaimed: int | None = None) -> None:
        self._add(action, target, name, reclaimed)

    def add_failure(self, name: str, error: str) -> None:
        self._add("load-failed", "", name.encode(errors="replace").decode(), None, error)

    def _add(
        self, action: str, target: str, name: str, reclaimed: int | None, error: str | None = None
    ) -> None:
        with self._memory.transaction() as tables:
            number = self.last() + 1
            event = Event(number, time.time_ns(), action, target, name, reclaimed, error)
            tables.events = [*tables.events, event][-EVENTS_KEPT:]

    def after(self, number: int = 0) -> list[Event]:
        with self._memory.lock:
            return [event for event in self._memory.tables.events if event.number > number]

    def last(self) -> int:
        with self._memory.lock:
            events = self._memory.tables.events
            return events[-1].number if events else 0


class MemoryTables:
    """A `TableStore` in memory."""

    def __init__(self) -> None:
        self._found: dict[str, bytes] = {}

    def get(self, digest: str) -> bytes | None:
        return self._found.get(parse(digest))

    def put(self, digest: str, data: bytes) -> None:
        self._found[parse(digest)] = data

    def delete(self, digest: str) -> None:
        self._found.pop(parse(digest), None)


class NoNameLock:
    """A `NameLock` that lets no kernel keep a name."""

    def hold(self) -> bool:
        return False

    def release(self) -> None:
        pass


class MemoryStore(Closing):
    """A `Store` in memory, whose users put their temporary files into `directory`."""

    supports_collection = False

    def __init__(self, directory: Path) -> None:
        self._memory = Memory()
        self.directory = directory
        self.location = "memory://"
        self.content = MemoryContent(self._memory)
        self.tables = MemoryTables()
        self.events = MemoryEvents(self._memory)
        self.images = MemoryImages(self._memory, self.events)
        self.leases = MemoryLeases(self._memory)
        self.name_lock = NoNameLock()
        self.transaction = self._memory.transaction

    def version(self) -> int:
        return self._memory.version

    def garbage(self) -> Iterator[Garbage]:
        raise StoreError(self.location, "cannot be collected")

    collect = garbage


def _new(ref: str, algorithm: str) -> Ingest:
    hasher(algorithm)
    return Ingest(ref, algorithm)


def _own(writer: Writer) -> MemoryWriter:
    if not isinstance(writer, MemoryWriter):
        raise TypeError(f"expected a writer of this store, found {type(writer).__name__}")
    return writer


def _kept(labels: Mapping[str, str]) -> dict[str, str]:
    return {key: value for key, value in labels.items() if value}

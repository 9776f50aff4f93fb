"""A store that keeps everything in memory: the least that a store has to implement."""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from threading import RLock

import msgspec
from msgspec.structs import astuple, replace

from engine.closing import Closing
from engine.content.protocols import NO_LABELS, Committed, Info, Status
from engine.content.writer import Record, Writer
from engine.errors import NotFound, Unavailable
from engine.image import Image, Summary
from engine.spec.digest import parse
from engine.stores.content import ContentStore, merged
from engine.stores.images import ImageStore
from engine.stores.protocols import EventLog, LeaseManager, NameLock, Store
from engine.stores.records import EVENTS_KEPT, Event


class Rows(msgspec.Struct):
    """The state that a transaction changes; its values are immutable, so a shallow copy will do."""

    blobs: dict[str, tuple[Info, bytes]] = {}
    images: dict[str, Image] = {}
    targets: dict[str, Summary] = {}
    events: list[Event] = []


class MemoryReader(Closing):
    def __init__(self, data: bytes) -> None:
        self._data = data
        self.size = len(data)

    def pread(self, length: int, offset: int) -> bytes:
        return self._data[offset : offset + length]

    def fileno(self) -> None:
        return None


class MemoryWriter(Writer):
    def __init__(self, content: "MemoryContent", record: Record, algorithm: str) -> None:
        super().__init__(record, algorithm, content.publish)
        self._content = content
        self.data, self.changed_at = bytearray(), record.started_at

    def resume(self, before: "MemoryWriter") -> None:
        self.data, self.changed_at = before.data, before.changed_at
        self._take_up(len(self.data))

    def last_status(self) -> Status:
        return self.record.status(len(self.data), self.changed_at)

    def status(self) -> Status:
        self._check_open()
        return self.last_status()

    def pread(self, length: int, offset: int) -> bytes:
        self._check_open()
        return bytes(self.data[offset : offset + length])

    def _append(self, data: memoryview) -> int:
        self.data += data
        self.changed_at = time.time()
        return len(data)

    def _overwrite(self, data: memoryview, offset: int) -> int:
        self.data += bytes(max(0, offset - len(self.data)))
        self.data[offset : offset + len(data)] = data
        return len(data)

    def _cut(self, size: int) -> None:
        del self.data[size:]

    def _discard(self) -> None:
        self._content.ended(self)


class MemoryContent(ContentStore):
    def __init__(self, store: "MemoryStore") -> None:
        self._store = store
        self._writers: dict[str, MemoryWriter] = {}

    def _transaction(self) -> AbstractContextManager[object]:
        return self._store.transaction()

    def open(self, digest: str) -> MemoryReader:
        return MemoryReader(self._get(digest)[1])

    def info(self, digest: str) -> Info:
        return self._get(digest)[0]

    def walk(self, wanted: Callable[[Info], bool] | None = None) -> Iterator[Info]:
        with self._store.lock:
            infos = [info for _, (info, _) in sorted(self._store.rows.blobs.items())]
        return filter(wanted, infos) if wanted else iter(infos)

    def update(self, digest: str, labels: Mapping[str, str]) -> Info:
        with self._store.transaction() as rows:
            info, data = self._get(digest)
            if (kept := merged(info.labels, labels)) != info.labels:
                info = replace(info, labels=kept, updated_at=time.time())
                rows.blobs[digest] = info, data
            return info

    def delete(self, digest: str) -> None:
        with self._store.transaction() as rows:
            self._get(digest)
            del rows.blobs[digest]

    def writer(
        self, ref: str, size: int = 0, expected: str | None = None, algorithm: str = "sha256"
    ) -> MemoryWriter:
        with self._store.lock:
            before = self._writers.get(ref)
            if before and before.is_open:
                raise Unavailable("ingest", ref)
            record = before.record if before else Record(ref, 0, None, time.time())
            record = record.agreed(size, parse(expected) if expected else None)
            writer = MemoryWriter(self, record, algorithm)
            if before:
                writer.resume(before)
            self._writers[ref] = writer
            return writer

    def unnamed_writer(
        self, size: int = 0, expected: str | None = None, algorithm: str = "sha256"
    ) -> MemoryWriter:
        digest = parse(expected) if expected else None
        return MemoryWriter(self, Record("a new blob", size, digest, time.time()), algorithm)

    def statuses(self) -> list[Status]:
        with self._store.lock:
            return [writer.last_status() for _, writer in sorted(self._writers.items())]

    def abort(self, ref: str) -> None:
        with self._store.lock:
            self.status(ref)
            if self._writers[ref].is_open:
                raise Unavailable("ingest", ref)
            del self._writers[ref]

    def ended(self, writer: MemoryWriter) -> None:
        """Forget a writer that others could resume."""
        with self._store.lock:
            if self._writers.get(writer.record.ref) is writer:
                del self._writers[writer.record.ref]

    def _take(self, writers: Sequence[tuple[Writer, Mapping[str, str]]]) -> list[Committed]:
        return [self._add(writer, labels) for writer, labels in writers]

    def _add(self, writer: Writer, labels: Mapping[str, str]) -> Committed:
        digest, now = writer.digest(), time.time()
        if self.exists(digest):
            return Committed(self.update(digest, labels), added=False)
        info = Info(digest, writer.offset, now, now, merged(NO_LABELS, labels))
        self._store.rows.blobs[digest] = info, writer.pread(writer.offset, 0)
        return Committed(info, added=True)

    def _get(self, digest: str) -> tuple[Info, bytes]:
        with self._store.lock:
            found = self._store.rows.blobs.get(parse(digest))
        if found is None:
            raise NotFound("blob", digest)
        return found


class MemoryImages(ImageStore):
    def __init__(self, store: "MemoryStore") -> None:
        super().__init__(store.events)
        self._store = store

    def _transaction(self) -> AbstractContextManager[object]:
        return self._store.transaction()

    def find(self, name: str) -> Image | None:
        return self._store.rows.images.get(name)

    def all(self, repository: str = "") -> list[Image]:
        with self._store.lock:
            images = [image for _, image in sorted(self._store.rows.images.items())]
        starts = (f"{repository}:", f"{repository}@")
        return [i for i in images if not repository or i.name.startswith(starts)]

    def record(self, target: str, summary: Summary) -> None:
        with self._store.transaction() as rows:
            blobs, missing = (tuple(sorted(s)) for s in (summary.blobs, summary.missing))
            rows.targets[target] = replace(summary, blobs=blobs, missing=missing)

    def summary(self, target: str) -> Summary:
        if (found := self._store.rows.targets.get(target)) is None:
            raise NotFound("image", target)
        return found

    def _write(self, image: Image) -> None:
        self._store.rows.images[image.name] = image

    def _erase(self, name: str) -> None:
        self._store.rows.images.pop(name, None)

    def _erase_record(self, target: str) -> None:
        self._store.rows.targets.pop(target, None)


class MemoryEvents(EventLog):
    def __init__(self, store: "MemoryStore") -> None:
        self._store = store

    def _append(
        self, action: str, target: str, name: str, reclaimed: int | None, error: str | None
    ) -> None:
        with self._store.transaction() as rows:
            event = Event(self.last() + 1, time.time_ns(), action, target, name, reclaimed, error)
            rows.events = [*rows.events, event][-EVENTS_KEPT:]

    def after(self, number: int = 0) -> list[Event]:
        return [event for event in self._store.rows.events if event.number > number]

    def last(self) -> int:
        return self._store.rows.events[-1].number if self._store.rows.events else 0


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


class MemoryStore(Store):
    """A `Store` in memory, whose users put their temporary files into `directory`."""

    content: MemoryContent
    images: MemoryImages
    tables: MemoryTables

    def __init__(self, directory: Path) -> None:
        self.rows = Rows()
        self.lock = RLock()
        self.directory = directory
        self.location = "memory://"
        self.content = MemoryContent(self)
        self.events = MemoryEvents(self)
        self.images = MemoryImages(self)
        self.leases = LeaseManager()
        self.name_lock = NameLock()
        self.tables = MemoryTables()
        self._version = 0

    @contextmanager
    def transaction(self) -> Iterator[Rows]:
        with self.lock:
            before = Rows(*(table.copy() for table in astuple(self.rows)))
            try:
                yield self.rows
            except BaseException:
                self.rows = before
                raise
            finally:
                self._version += 1

    def version(self) -> int:
        return self._version

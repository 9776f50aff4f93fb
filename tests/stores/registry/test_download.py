"""Downloads that stall, end, or have no end."""

import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from threading import Event, Thread
from typing import cast

import pytest

from engine.content.blobs import read_blob
from engine.content.protocols import Committed
from engine.content.writer import Writer
from engine.errors import DigestMismatch, StoreError
from engine.stores.local.store import LocalStore
from engine.stores.local.writer import LocalWriter
from engine.stores.open import open_store
from engine.stores.protocols import Store
from engine.stores.registry.api import Reading
from engine.stores.registry.client import Client
from engine.stores.registry.download import INGEST, Download
from engine.stores.registry.location import Location, parse_location
from engine.stores.registry.reader import RemoteReader
from engine.stores.registry.remote_blob import RemoteBlob
from engine.stores.registry.sources import Source, Sources
from tests.archives import ImageParts, digest, layer
from tests.stores.registry.memory_registry import MemoryRegistry, memory_registry
from tests.stores.registry.scripted import Answer, host_of, scripted, unheard
from tests.waiting import wait_until

IMAGE = ImageParts(layers=(layer("large", bytes(range(256)) * 16384),))
DATA = IMAGE.layers[0]
LARGE = digest(DATA)
BLOB = f"/v2/app/blobs/{LARGE}"
HALF = len(DATA) // 2
WRONG = bytes(len(DATA))
PIECE = 256 << 10
OFFSETS = range(0, len(DATA), PIECE)


@pytest.fixture
def registry() -> Iterator[MemoryRegistry]:
    with memory_registry() as running:
        running.put("app", "1", IMAGE)
        yield running


@pytest.fixture
def location(registry: MemoryRegistry, tmp_path: Path) -> Location:
    return parse_location(f"registry://{registry.host}?cache={tmp_path}/cache")


@pytest.fixture
def stalling(registry: MemoryRegistry) -> Iterator[Event]:
    """Return the event that an answer has begun, which goes on at the end of the test only."""
    begun, released = Event(), Event()

    def stall(handler: BaseHTTPRequestHandler, data: bytes) -> None:
        send(handler, data, 100)
        begun.set()
        released.wait(120)

    registry.handlers[BLOB] = stall
    yield begun
    released.set()


def send(handler: BaseHTTPRequestHandler, data: bytes, length: int) -> None:
    """Announce bytes, and send the first of them."""
    handler.send_response(200)
    handler.send_header("Content-Length", str(len(data)))
    handler.end_headers()
    handler.wfile.write(data[:length])
    handler.wfile.flush()


@contextmanager
def remote_blob(location: Location, reading: Reading) -> Iterator[tuple[LocalStore, RemoteBlob]]:
    """Provide the cache of a registry, and a blob that is not in it."""
    path = Path(location.cache)
    source = Source(LARGE, f"{location.host}/app", len(DATA), is_manifest=False)
    with LocalStore.create(path) as cache, Sources(path, location.root) as sources:
        sources.add([source])
        yield cache, RemoteBlob(reading, location, sources, source)


def closed(store: Store) -> Thread:
    """Return a thread that closes a store."""
    closing = Thread(target=store.close, daemon=True)
    closing.start()
    return closing


def ended(thread: Thread) -> None:
    wait_until(lambda: not thread.is_alive(), "the thread has ended")


def test_a_registry_that_stalls_does_not_hold_up_the_end(
    location: Location, stalling: Event
) -> None:
    store = open_store(location.url)
    store.images.get(f"{location.host}/app:1")

    def read() -> None:
        with suppress(StoreError), store.content.open(LARGE) as reader:
            reader.pread(1, 0)

    Thread(target=read, daemon=True).start()
    assert stalling.wait(30)
    ended(closed(store))


def test_a_pause_ends_with_the_store(registry: MemoryRegistry, location: Location) -> None:
    def refuse(handler: BaseHTTPRequestHandler, _: bytes) -> None:
        handler.send_response(503)
        handler.send_header("Retry-After", "30")
        handler.send_header("Content-Length", "0")
        handler.end_headers()

    path = "/v2/app/manifests/1"
    registry.handlers[path] = refuse
    store = open_store(location.url)
    errors: list[StoreError] = []

    def look_up() -> None:
        try:
            store.images.find(f"{location.host}/app:1")
        except StoreError as error:
            errors.append(error)

    waiting = Thread(target=look_up, daemon=True)
    waiting.start()
    wait_until(lambda: path in registry.seen, "the manifest is asked for")
    ended(closed(store))
    ended(waiting)
    assert len(errors) == 1
    assert registry.seen.count(path) == 1


def test_a_download_that_was_stopped_asks_for_nothing_more(
    registry: MemoryRegistry, location: Location
) -> None:
    registry.handlers[BLOB] = lambda handler, data: send(handler, data, HALF)
    reading = Reading(Client(location, lambda _: download.stop()))
    with remote_blob(location, reading) as (cache, blob):
        ending = Event()
        download = Download(reading, cache.content, blob, lambda _: ending.set())
        assert download.join()
        download.start()
        assert ending.wait(30)
        assert download.pread(1, len(DATA) - 1) is None
        download.leave()
    assert registry.seen.count(BLOB) == 1


def test_readers_leave_while_the_blob_is_published(
    location: Location, monkeypatch: pytest.MonkeyPatch
) -> None:
    reading = Reading(Client(location))
    with remote_blob(location, reading) as (cache, blob):
        publish = cache.content.publish
        download = Download(reading, cache.content, blob, lambda _: None)

        def come_and_go() -> None:
            download.join()
            download.leave()

        def publish_meanwhile(
            writers: Sequence[tuple[Writer, Mapping[str, str]]],
        ) -> list[Committed]:
            other = Thread(target=come_and_go, daemon=True)
            other.start()
            ended(other)
            return publish(writers)

        monkeypatch.setattr(cache.content, "publish", publish_meanwhile)
        assert download.join()
        with RemoteReader(download, reading, is_whole=True) as reader:
            assert reader.pread(len(DATA), 0) == DATA
            wait_until(lambda: download.has_ended, "the blob has come")
            assert reader.pread(len(DATA), 0) == DATA


def test_a_large_config_is_fetched_without_the_lock_of_the_cache(
    registry: MemoryRegistry, location: Location, tmp_path: Path
) -> None:
    image = ImageParts(extra={"history": [{"comment": "large" * 100_000}]})
    registry.put("large", "1", image)
    locked: list[bool] = []

    def look(handler: BaseHTTPRequestHandler, data: bytes) -> None:
        database = sqlite3.connect(tmp_path / "cache/imgfs.db", timeout=0, isolation_level=None)
        try:
            database.execute("BEGIN IMMEDIATE")
            locked.append(False)
        except sqlite3.OperationalError:
            locked.append(True)
        finally:
            database.close()
        send(handler, data, len(data))

    registry.handlers[f"/v2/large/blobs/{image.id}"] = look
    with open_store(location.url) as store:
        store.images.get(f"{location.host}/large:1")
    assert locked == [False]


def test_an_answer_without_an_end_is_not_read_to_it(
    registry: MemoryRegistry, location: Location
) -> None:
    to_the_end = Event()

    def go_on(handler: BaseHTTPRequestHandler, data: bytes) -> None:
        handler.send_response(200)
        handler.end_headers()
        handler.wfile.write(data)
        with suppress(OSError):
            for _ in range(256):
                handler.wfile.write(bytes(1 << 20))
            to_the_end.set()

    registry.handlers[BLOB] = go_on
    with open_store(location.url) as store:
        store.images.get(f"{location.host}/app:1")
        assert read_blob(store.content, LARGE) == DATA
    assert not to_the_end.is_set()


class _Interrupted:
    """A blob whose answer goes on with other bytes once it is shut down, as that of a TLS
    connection does.
    """

    digest, size, status = LARGE, len(DATA), 200

    def __init__(self) -> None:
        self.download: Download
        self._pieces = [DATA[:HALF]]

    def request(self, _first: int, _last: int) -> "_Interrupted":
        return self

    def read(self, _size: int) -> bytes:
        if self._pieces:
            return self._pieces.pop()
        self.download.stop()
        return b"\xa5" * 1000

    def shutdown(self) -> None:
        """Do nothing."""

    def close(self) -> None:
        """Do nothing."""

    release_conn = close


def test_what_is_read_after_the_end_of_a_download_is_not_kept(tmp_path: Path) -> None:
    reading = Reading(Client(parse_location("registry://localhost:1")))
    with LocalStore.create(tmp_path / "cache") as cache:
        blob, ending = _Interrupted(), Event()
        blob.download = Download(
            reading, cache.content, cast(RemoteBlob, blob), lambda _: ending.set()
        )
        assert blob.download.join()
        blob.download.start()
        assert ending.wait(60)
        (status,) = cache.content.statuses()
        assert status.offset == HALF


def test_an_ingest_of_a_wrong_size_is_begun_anew(location: Location, tmp_path: Path) -> None:
    with LocalStore.create(tmp_path / "cache") as cache:
        with cache.content.writer(f"registry-{LARGE}", len(DATA) + 1, LARGE) as writer:
            writer.write(DATA[:100])
            writer.close()
        with open_store(location.url) as store:
            store.images.all()
            assert read_blob(store.content, LARGE) == DATA


def test_a_download_takes_up_the_ingest_of_one_that_is_about_to_end(
    location: Location, monkeypatch: pytest.MonkeyPatch
) -> None:
    closing, released = Event(), Event()
    close = LocalWriter.close

    def close_late(writer: LocalWriter) -> None:
        closing.set()
        assert released.wait(30)
        close(writer)

    reading = Reading(Client(location))
    with remote_blob(location, reading) as (cache, blob):
        ending = Event()
        first = Download(reading, cache.content, blob, lambda _: None)
        second = Download(reading, cache.content, blob, lambda _: ending.set(), first)
        assert second.join()
        monkeypatch.setattr(LocalWriter, "close", close_late)
        first.start()  # nobody reads it
        assert closing.wait(30)
        monkeypatch.setattr(LocalWriter, "close", close)
        assert not first.join()
        wait = first.wait

        def wait_for_release() -> None:
            released.set()
            wait()

        monkeypatch.setattr(first, "wait", wait_for_release)
        second.start()
        assert ending.wait(30)
        assert cache.content.exists(LARGE)
        second.leave()


@contextmanager
def reader_beside_another_process(location: Location) -> Iterator[RemoteReader]:
    """Provide a reader of a blob that another process is fetching."""
    reading = Reading(Client(location, lambda _: None))
    with (
        remote_blob(location, reading) as (cache, blob),
        cache.content.writer(f"{INGEST}{LARGE}", len(DATA), LARGE),
    ):
        download = Download(reading, cache.content, blob, lambda _: None)
        assert download.join()
        with RemoteReader(download, reading, is_whole=True) as reader:
            yield reader


ORDERS = pytest.mark.parametrize(
    "offsets",
    [
        [0],
        [*OFFSETS],
        [at for pair in zip(OFFSETS[1::2], OFFSETS[::2], strict=False) for at in pair]
        + [*OFFSETS[len(OFFSETS) // 2 * 2 :]],
        [*OFFSETS[::-1]],
    ],
    ids=["at once", "in order", "by two threads", "backwards"],
)


@ORDERS
def test_a_whole_read_beside_another_process_has_no_wrong_bytes(
    registry: MemoryRegistry, location: Location, offsets: list[int]
) -> None:
    registry.answers[BLOB] = WRONG
    size = len(DATA) if offsets == [0] else PIECE
    with reader_beside_another_process(location) as reader:
        for at in offsets[:-1]:
            assert reader.pread(size, at) == WRONG[at : at + size]
        for _ in range(2):
            with pytest.raises(DigestMismatch):
                reader.pread(size, offsets[-1])


@ORDERS
def test_a_whole_read_beside_another_process_comes_whole(
    location: Location, offsets: list[int]
) -> None:
    size = len(DATA) if offsets == [0] else PIECE
    with reader_beside_another_process(location) as reader:
        for at in [*offsets, *offsets]:
            assert reader.pread(size, at) == DATA[at : at + size]


def test_a_reader_that_has_had_wrong_bytes_learns_so(
    registry: MemoryRegistry, location: Location
) -> None:
    """The download begins anew once all has come, and gets the right bytes then."""
    read = Event()

    def answer(handler: BaseHTTPRequestHandler, data: bytes) -> None:
        if read.is_set():
            send(handler, data, len(data))
        else:
            send(handler, WRONG, HALF)
            read.wait(30)
            handler.wfile.write(WRONG[HALF:])

    registry.handlers[BLOB] = answer
    reading = Reading(Client(location, lambda _: None))
    with remote_blob(location, reading) as (cache, blob):
        ended = Event()
        download = Download(reading, cache.content, blob, lambda _: ended.set())
        assert download.join()
        with RemoteReader(download, reading, is_whole=True) as reader:
            assert reader.pread(PIECE, 0) == WRONG[:PIECE]
            read.set()
            assert ended.wait(60)
            for at in OFFSETS[1:-1]:
                assert reader.pread(PIECE, at) == DATA[at : at + PIECE]
            with pytest.raises(DigestMismatch):
                reader.pread(PIECE, OFFSETS[-1])


def test_a_registry_that_is_gone_for_a_moment_breaks_no_download(tmp_path: Path) -> None:
    bound, waits = unheard(), [0.0] * 0
    location = parse_location(f"registry://{host_of(bound)}?cache={tmp_path}/cache")
    with ExitStack() as running:

        def come_back(seconds: float) -> None:
            waits.append(seconds)
            if len(waits) == 3:
                running.enter_context(scripted(lambda _: Answer(body=DATA), bound))

        reading = Reading(Client(location, come_back))
        with remote_blob(location, reading) as (cache, blob):
            ended = Event()
            download = Download(reading, cache.content, blob, lambda _: ended.set())
            assert download.join()
            with RemoteReader(download, reading, is_whole=True) as reader:
                assert reader.pread(len(DATA), 0) == DATA
            assert ended.wait(60)
    assert sum(waits) >= 1

"""The clock is set forward and back while operations run."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from engine.archive.import_options import ImportOptions
from engine.archive.importer import Import
from engine.image import Image
from engine.stores.local.content import LocalContent
from engine.stores.local.events import LocalEvents
from engine.stores.local.gc import DAY
from engine.stores.local.images import LocalImages
from engine.stores.local.leases import LocalLeases
from engine.stores.local.store import LocalStore
from tests.faults import stores

YEARS = 10 * 365 * DAY
NOW = 1_700_000_000.0


@dataclass
class Clock:
    now: float = NOW

    def __call__(self) -> float:
        return self.now

    def nanoseconds(self) -> int:
        return int(self.now * 1e9)


@dataclass
class Clocked:
    """A store that reads its time from `clock`."""

    clock: Clock
    store: LocalStore

    def load(self, archive: bytes, jump: float = 0.0) -> None:
        """Load an archive; in the middle, set the clock and collect garbage."""
        session = Import(self.store, ImportOptions())
        with session:
            cut = len(archive) - 20_000
            session.feed(archive[:cut])
            self.clock.now += jump
            self.collect()
            session.feed(archive[cut:])
            session.finish()

    def collect(self) -> list[str]:
        return [garbage.kind for garbage in self.store.collect()]

    def image(self, name: str) -> Image:
        return self.store.images.get(f"docker.io/library/{name}")


@pytest.fixture
def clocked(tmp_path: Path) -> Iterator[Clocked]:
    clock = Clock()
    with LocalStore.create(tmp_path) as store:
        store.content = LocalContent(tmp_path, store.database, clock)
        store.images = LocalImages(store.database, clock)
        store.leases = LocalLeases(tmp_path, store.database, clock)
        store.events = LocalEvents(store.database, clock.nanoseconds)
        yield Clocked(clock, store)


@pytest.mark.parametrize("jump", [YEARS, -YEARS])
def test_a_load_is_complete_when_the_clock_is_set(clocked: Clocked, jump: float) -> None:
    clocked.load(stores.BASE)
    before = clocked.image("base:1")
    clocked.store.images.delete(before.name)  # from here on, only the load needs its layer
    clocked.load(stores.APP, jump)
    loaded = clocked.image("app:1")
    assert loaded.created_at == NOW + jump
    summary = clocked.store.images.summary(loaded.target.digest)
    assert summary.missing == ()
    assert all(clocked.store.content.exists(blob) for blob in summary.blobs)
    assert clocked.store.leases.list() == []


@pytest.mark.parametrize("jump", [YEARS, -YEARS])
def test_images_keep_their_creation_time_when_the_clock_is_set(
    clocked: Clocked, jump: float
) -> None:
    clocked.load(stores.BASE)
    base = clocked.image("base:1")
    clocked.clock.now += jump
    clocked.store.images.put(Image("docker.io/library/other:1", base.target))
    updated = clocked.store.images.put(base)
    assert (updated.created_at, updated.updated_at) == (NOW, NOW + jump)
    numbers = [event.number for event in clocked.store.events.after()]
    assert numbers == sorted(numbers)


@pytest.mark.parametrize("jump", [YEARS, -YEARS])
def test_a_paused_ingest_is_collected_after_a_jump_of_the_clock(
    clocked: Clocked, jump: float
) -> None:
    content = clocked.store.content
    with content.writer("held") as held, content.writer("paused") as paused:
        held.write(b"held")
        paused.write(b"paused")
        # The file system takes the time of the last write from the real clock.
        clocked.clock.now = paused.status().updated_at
        paused.close()
        assert clocked.collect() == []
        clocked.clock.now += jump
        assert clocked.collect() == ["ingest"]
        assert [status.ref for status in content.statuses()] == ["held"]
        assert held.commit().added


def test_expired_leases_are_collected_unless_held(clocked: Clocked) -> None:
    leases = clocked.store.leases
    with leases.hold() as held:
        for jump in (-YEARS, 2 * YEARS):
            clocked.clock.now += jump
            assert clocked.collect() == []
            leases.add(held.id, "sha256:" + 64 * "0")
            assert leases.list() == [held]
    assert leases.list() == []

"""The clock is set forward and back while something is at work."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from engine.archive.import_options import ImportOptions
from engine.archive.importer import Import, Parts
from engine.image import Image
from engine.stores.local import gc
from engine.stores.local.content import LocalStore
from engine.stores.local.database import Database
from engine.stores.local.events import EventLog
from engine.stores.local.images import ImageStore
from engine.stores.local.leases import DAY, Leases
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
    """A store whose time is told by `clock`."""

    clock: Clock
    parts: Parts

    def load(self, archive: bytes, jump: float = 0.0) -> None:
        """Load it; the clock jumps in the middle, and everything unneeded is collected then."""
        session = Import(self.parts, ImportOptions())
        with session:
            cut = len(archive) - 20_000
            session.feed(archive[:cut])
            self.clock.now += jump
            self.collect()
            session.feed(archive[cut:])
            session.finish()

    def collect(self) -> list[str]:
        parts = gc.Parts(
            self.parts.database, self.parts.content, self.parts.leases, self.parts.events
        )
        return [garbage.kind for garbage in gc.Collector(parts).collect()]

    def image(self, name: str) -> Image:
        return self.parts.images.get(f"docker.io/library/{name}")


@pytest.fixture
def clocked(tmp_path: Path) -> Iterator[Clocked]:
    clock = Clock()
    with Database(tmp_path / "imgfs.db") as database:
        yield Clocked(
            clock,
            Parts(
                database,
                LocalStore(tmp_path, database, clock),
                ImageStore(database, clock),
                Leases(tmp_path, database, clock),
                EventLog(database, clock.nanoseconds),
            ),
        )


@pytest.mark.parametrize("jump", [YEARS, -YEARS])
def test_a_load(clocked: Clocked, jump: float) -> None:
    clocked.load(stores.BASE)
    before = clocked.image("base:1")
    clocked.parts.images.delete(before.name)  # from here on the load alone wants its layer
    clocked.load(stores.APP, jump)
    loaded = clocked.image("app:1")
    assert loaded.created_at == NOW + jump
    summary = clocked.parts.images.summary(loaded.target.digest)
    assert summary.missing == ()
    assert all(clocked.parts.content.exists(blob) for blob in summary.blobs)
    assert clocked.parts.leases.list() == []


@pytest.mark.parametrize("jump", [YEARS, -YEARS])
def test_names(clocked: Clocked, jump: float) -> None:
    clocked.load(stores.BASE)
    base = clocked.image("base:1")
    clocked.clock.now += jump
    clocked.parts.images.put(Image("docker.io/library/other:1", base.target))
    updated = clocked.parts.images.put(base)
    assert (updated.created_at, updated.updated_at) == (NOW, NOW + jump)
    numbers = [event.number for event in clocked.parts.events.after()]
    assert numbers == sorted(numbers)


@pytest.mark.parametrize("jump", [YEARS, -YEARS])
def test_an_ingest_that_may_be_resumed(clocked: Clocked, jump: float) -> None:
    content = clocked.parts.content
    with content.writer("held") as held, content.writer("paused") as paused:
        held.write(b"held")
        paused.write(b"paused")
        # The file system tells the time of its last write by the real clock.
        clocked.clock.now = paused.status().updated_at
        paused.close()
        assert clocked.collect() == []
        clocked.clock.now += jump
        assert clocked.collect() == ["ingest"]
        assert [status.ref for status in content.statuses()] == ["held"]
        assert held.commit().added


def test_a_lease(clocked: Clocked) -> None:
    leases = clocked.parts.leases
    leases.create("for a day")
    leases.create("for ever", expires_in=None)
    with leases.hold() as held:
        clocked.clock.now -= YEARS
        assert {lease.id for lease in leases.list()} == {"for a day", "for ever", held.id}
        clocked.clock.now += 2 * YEARS
        assert clocked.collect() == ["lease"]
        leases.add(held.id, "sha256:" + 64 * "0")
        assert {lease.id for lease in leases.list()} == {"for ever", held.id}
    assert [lease.id for lease in leases.list()] == ["for ever"]

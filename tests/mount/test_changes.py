"""A change shows at once on every path of every mount, whichever process made it."""

import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from threading import Event, Thread

import pytest

from tests import archives
from tests.archives import ImageParts
from tests.local_engine import LocalEngine
from tests.mounts import IMGFS, Mounted, run
from tests.waiting import wait_until

APP, OTHER = ImageParts(), ImageParts(layers=[archives.layer("other")])
LATE = 0.3
"""Seconds after which a listing can leave stale names (docs/architecture.md, rule 3)."""
STALE = 0.2
"""Seconds for which it can, with the ticks of the kernel's clock."""
BLOB = f"blobs/sha256/{APP.id[7:]}"


@pytest.fixture
def app(mounted: Mounted) -> Mounted:
    mounted.load(
        archives.docker_archive((APP, ["app:1", "ghcr.io/org/app:1"]), (OTHER, ["other:1"]))
    )
    return mounted


def shows(directory: Path, image: ImageParts) -> bool:
    return os.path.exists(directory / f"blobs/sha256/{image.id[7:]}")


@pytest.mark.parametrize("name", ["app:1", "ghcr.io/org/app:1"])
def test_a_moved_or_removed_tag_shows_at_once(app: Mounted, engine: LocalEngine, name: str) -> None:
    assert shows(app / name, APP)
    engine.tag("other:1", name)
    assert shows(app / name, OTHER)
    engine.remove(name)
    assert not (app / name).exists()


class Listings:
    """Listings of a mount; names may be stale for a moment after one that took `LATE` seconds."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.ended = 0
        self._late_at = 0.0

    def list(self) -> None:
        began = time.monotonic()
        with os.scandir(self.path) as entries:
            assert all(entry.stat() for entry in entries)
        ended = time.monotonic()
        if ended - began >= LATE:
            self._late_at = ended
        self.ended += 1

    def may_be_stale(self, since: float) -> bool:
        """Return whether stale names are no fault after `since`."""
        return self._late_at > since - STALE


def check_changes(
    app: Mounted, engine: LocalEngine, around: Callable[[Listings], AbstractContextManager[None]]
) -> None:
    """Move a tag to and fro, each time in a block of `around`; it must show at once."""
    listings = Listings(app.path)
    excused = 0
    for source, image in [("other:1", OTHER), ("ghcr.io/org/app:1", APP)] * 5:
        began = time.monotonic()
        with around(listings):
            engine.tag(source, "app:1")
            is_shown = shows(app / "app:1", image)
        if not is_shown:
            assert listings.may_be_stale(began)
            excused += 1
    assert excused < 5, "most turns have told something"


def test_a_tag_that_has_just_been_listed_shows_its_change_at_once(
    app: Mounted, engine: LocalEngine
) -> None:
    """The kernel may keep the names of a listing for a moment; a change of names waits for that."""

    @contextmanager
    def listed(listings: Listings) -> Iterator[None]:
        listings.list()
        yield

    check_changes(app, engine, listed)


def test_the_link_count_of_a_blob_follows_the_tags(app: Mounted, engine: LocalEngine) -> None:
    assert (app / "app:1" / BLOB).stat().st_nlink == 2
    engine.tag("app:1", "app:2")
    assert (app / "app:1" / BLOB).stat().st_nlink == 3
    engine.remove("ghcr.io/org/app:1")
    assert (app / "app:1" / BLOB).stat().st_nlink == 2


@contextmanager
def busy_readers(listings: Listings) -> Iterator[None]:
    """List and stat the mount all the time in threads; wait for the last listings at the end."""
    stop = Event()
    before = listings.ended

    def look() -> None:
        while not stop.is_set():
            listings.list()
            shows(listings.path / "app:1", APP)

    readers = [Thread(target=look) for _ in range(2)]
    for reader in readers:
        reader.start()
    try:
        wait_until(lambda: listings.ended > before, "a reader has listed it")
        yield
    finally:
        stop.set()
        for reader in readers:
            reader.join()


def test_a_moved_tag_shows_at_once_to_busy_readers(app: Mounted, engine: LocalEngine) -> None:
    """A change waits only a moment for readers, and the kernel keeps none of their old answers."""
    check_changes(app, engine, busy_readers)


def test_an_unchanged_working_directory_stays_reachable(app: Mounted, engine: LocalEngine) -> None:
    """A process cannot find its working directory any more if the kernel drops the name."""
    here = os.getcwd()
    os.chdir(app / "app:1")
    try:
        engine.tag("app:1", "new:1")
        engine.tag("app:1", "app:1")
        assert (app / "app:1" / BLOB).stat().st_nlink == 3
        assert os.getcwd() == str(app / "app:1")
    finally:
        os.chdir(here)


def test_a_suspended_mount_delays_no_change_and_shows_it_when_resumed(
    app: Mounted, engine: LocalEngine
) -> None:
    with os.scandir(app.path) as entries:
        assert all(entry.stat() for entry in entries)
    os.kill(app.pid, signal.SIGSTOP)
    try:
        engine.tag("other:1", "app:1")
    finally:
        os.kill(app.pid, signal.SIGCONT)
    assert shows(app / "app:1", OTHER)


def test_a_dead_mount_delays_no_change(mount: Callable[..., Mounted], app: Mounted) -> None:
    other = mount(at="other")
    with os.scandir(other.path) as entries:
        assert all(entry.stat() for entry in entries)
    os.kill(other.pid, signal.SIGKILL)
    run(*IMGFS, "--store", app.store, "tag", "other:1", "app:1")
    assert shows(app / "app:1", OTHER)
    run("fusermount3", "-u", "-z", other.path)

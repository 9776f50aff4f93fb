"""A change shows at once on every path of every mount, whichever process made it."""

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Event, Thread

import pytest

from tests import archives
from tests.archives import ImageParts
from tests.local_engine import LocalEngine
from tests.mounts import IMGFS, Mounted, run

APP, OTHER = ImageParts(), ImageParts(layers=[archives.layer("other")])
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


def test_a_tag_that_has_just_been_listed_shows_its_change_at_once(
    app: Mounted, engine: LocalEngine
) -> None:
    """The kernel may keep the names of a listing for a moment; a change of names waits for that."""
    for source, image in [("other:1", OTHER), ("ghcr.io/org/app:1", APP)] * 3:
        with os.scandir(app.path) as entries:
            assert all(entry.stat() for entry in entries)
        engine.tag(source, "app:1")
        assert shows(app / "app:1", image)


def test_the_link_count_of_a_blob_follows_the_tags(app: Mounted, engine: LocalEngine) -> None:
    assert (app / "app:1" / BLOB).stat().st_nlink == 2
    engine.tag("app:1", "app:2")
    assert (app / "app:1" / BLOB).stat().st_nlink == 3
    engine.remove("ghcr.io/org/app:1")
    assert (app / "app:1" / BLOB).stat().st_nlink == 2


@contextmanager
def busy_readers(app: Mounted) -> Iterator[None]:
    """Run processes that list and stat the mount all the time."""
    ended = Event()

    def look() -> None:
        while not ended.is_set():
            with os.scandir(app.path) as entries:
                assert all(entry.stat() for entry in entries)
            shows(app / "app:1", APP)

    readers = [Thread(target=look) for _ in range(2)]
    for reader in readers:
        reader.start()
    try:
        yield
    finally:
        ended.set()
        for reader in readers:
            reader.join()


def test_a_moved_tag_shows_at_once_to_busy_readers(app: Mounted, engine: LocalEngine) -> None:
    """A change waits only a moment for readers, and the kernel keeps none of their old answers."""
    with busy_readers(app):
        for image, source in [(OTHER, "other:1"), (APP, "ghcr.io/org/app:1")] * 5:
            engine.tag(source, "app:1")
            assert shows(app / "app:1", image)


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

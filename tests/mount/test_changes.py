"""What has changed shows at once, on every path of every mount, whoever has changed it."""

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
def test_a_tag_that_moves_and_goes(app: Mounted, engine: LocalEngine, name: str) -> None:
    assert shows(app / name, APP)
    engine.tag("other:1", name)
    assert shows(app / name, OTHER)
    engine.remove(name)
    assert not (app / name).exists()


def test_a_tag_that_has_just_been_listed(app: Mounted, engine: LocalEngine) -> None:
    """The kernel may keep the names of a listing for a moment, and that is waited for."""
    for source, image in [("other:1", OTHER), ("ghcr.io/org/app:1", APP)] * 3:
        with os.scandir(app.path) as entries:
            assert all(entry.stat() for entry in entries)
        engine.tag(source, "app:1")
        assert shows(app / "app:1", image)


def test_links(app: Mounted, engine: LocalEngine) -> None:
    assert (app / "app:1" / BLOB).stat().st_nlink == 2
    engine.tag("app:1", "app:2")
    assert (app / "app:1" / BLOB).stat().st_nlink == 3
    engine.remove("ghcr.io/org/app:1")
    assert (app / "app:1" / BLOB).stat().st_nlink == 2


@contextmanager
def busy_readers(app: Mounted) -> Iterator[None]:
    """Processes that list and look all the time."""
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


def test_looking_while_a_tag_moves(app: Mounted, engine: LocalEngine) -> None:
    """Nobody waits for those who look, longer than for a moment, and no answer of theirs stays."""
    with busy_readers(app):
        for image, source in [(OTHER, "other:1"), (APP, "ghcr.io/org/app:1")] * 5:
            engine.tag(source, "app:1")
            assert shows(app / "app:1", image)


def test_who_is_in_a_directory_that_stays_is_left_in_peace(
    app: Mounted, engine: LocalEngine
) -> None:
    """What the kernel drops cannot be found any more by those who are in it."""
    here = os.getcwd()
    os.chdir(app / "app:1")
    try:
        engine.tag("app:1", "new:1")
        engine.tag("app:1", "app:1")
        assert (app / "app:1" / BLOB).stat().st_nlink == 3
        assert os.getcwd() == str(app / "app:1")
    finally:
        os.chdir(here)


def test_a_suspended_mount_holds_nobody_up_and_wakes_up_right(
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


def test_a_dead_mount_holds_nobody_up(mount: Callable[..., Mounted], app: Mounted) -> None:
    other = mount(at="other")
    with os.scandir(other.path) as entries:
        assert all(entry.stat() for entry in entries)
    os.kill(other.pid, signal.SIGKILL)
    run(*IMGFS, "--store", app.store, "tag", "other:1", "app:1")
    assert shows(app / "app:1", OTHER)
    run("fusermount3", "-u", "-z", other.path)

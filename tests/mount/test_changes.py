"""What other processes change shows although the kernel keeps names and link counts."""

import os
from pathlib import Path
from threading import Event, Thread

import pytest

from engine.engine import Engine
from engine.schema import CHANGES_KEPT
from tests import archives
from tests.archives import ImageParts
from tests.mounts import Mounted
from tests.waiting import wait_until

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
def test_a_tag_that_moves_and_goes(app: Mounted, engine: Engine, name: str) -> None:
    assert shows(app / name, APP)
    engine.tag("other:1", name)
    wait_until(lambda: shows(app / name, OTHER), "the tag has moved", 1.0)
    engine.remove(name)
    wait_until(lambda: not (app / name).exists(), "the tag is gone", 1.0)


def test_links(app: Mounted, engine: Engine) -> None:
    assert (app / "app:1" / BLOB).stat().st_nlink == 2
    engine.tag("app:1", "app:2")
    wait_until(lambda: (app / "app:1" / BLOB).stat().st_nlink == 3, "a link more", 1.0)
    engine.remove("ghcr.io/org/app:1")
    wait_until(lambda: (app / "app:1" / BLOB).stat().st_nlink == 2, "a link less", 1.0)


def test_more_changes_than_are_kept(app: Mounted, engine: Engine) -> None:
    """All that the kernel knows is asked for anew."""
    assert shows(app / "ghcr.io/org/app:1", APP)
    with engine.database.transaction() as connection:
        engine.tag("other:1", "ghcr.io/org/app:1")
        connection.executemany(
            "UPDATE images SET created = ? WHERE path = 'app:1'",
            [(n,) for n in range(CHANGES_KEPT)],
        )
    wait_until(lambda: shows(app / "ghcr.io/org/app:1", OTHER), "the tag has moved", 1.0)


def test_looking_while_a_tag_moves(app: Mounted, engine: Engine) -> None:
    """An answer that crosses the news of a change does not stay."""
    ended = Event()

    def look() -> None:
        while not ended.is_set():
            shows(app / "app:1", APP)

    readers = [Thread(target=look) for _ in range(2)]
    for reader in readers:
        reader.start()
    try:
        for image, source in [(OTHER, "other:1"), (APP, "ghcr.io/org/app:1")] * 10:
            engine.tag(source, "app:1")
            wait_until(lambda image=image: shows(app / "app:1", image), "the tag has moved", 2.0)  # type: ignore[misc]
    finally:
        ended.set()
        for reader in readers:
            reader.join()


def test_who_is_in_a_directory_that_stays_is_left_in_peace(app: Mounted, engine: Engine) -> None:
    """What the kernel drops cannot be found any more by those who are in it."""
    here = os.getcwd()
    os.chdir(app / "app:1")
    try:
        engine.tag("app:1", "new:1")
        engine.tag("app:1", "app:1")
        wait_until(lambda: (app / "app:1" / BLOB).stat().st_nlink == 3, "the news has come", 1.0)
        assert os.getcwd() == str(app / "app:1")
    finally:
        os.chdir(here)

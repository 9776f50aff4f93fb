"""Changes of names wait for kernels that may still know the old ones, and for nobody else."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from engine.image import Image, Summary
from engine.spec.digest import of_bytes
from engine.spec.oci import DOCKER_MANIFEST, Descriptor
from engine.stores.local import name_lock
from engine.stores.local.database import Database
from engine.stores.local.images import LocalImages
from engine.stores.local.name_lock import LocalNameLock

TARGET = Descriptor(DOCKER_MANIFEST, of_bytes(b"one"), 3)
NAME = "docker.io/library/app:1"


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody gives up: what ends before the lock is released has not waited for it."""
    monkeypatch.setattr(name_lock, "LONGEST", 3600.0)


@contextmanager
def in_background(call: Callable[[], object]) -> Iterator[threading.Thread]:
    thread = threading.Thread(target=call, daemon=True)
    thread.start()
    try:
        yield thread
    finally:
        thread.join(60)
        assert not thread.is_alive()


@pytest.mark.usefixtures("patient")
def test_nobody_holds_it(tmp_path: Path) -> None:
    LocalNameLock(tmp_path).wait()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.usefixtures("patient")
def test_waiting_ends_when_every_holder_has_released_it(tmp_path: Path) -> None:
    first, second = LocalNameLock(tmp_path), LocalNameLock(tmp_path)
    assert first.hold()
    assert second.hold()
    assert second.hold()
    ends: list[str] = []

    def wait() -> None:
        LocalNameLock(tmp_path).wait()
        ends.append("waited")

    with in_background(wait):
        first.release()
        first.release()
        ends.append("released")
        second.release()
    assert ends == ["released", "waited"]


def test_a_holder_that_never_releases_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(name_lock, "LONGEST", 0.01)
    lock = LocalNameLock(tmp_path)
    assert lock.hold()
    LocalNameLock(tmp_path).wait()
    lock.release()


def test_where_no_file_can_be_made_nothing_is_kept(tmp_path: Path) -> None:
    assert not LocalNameLock(tmp_path / "absent").hold()


def test_every_change_of_names_waits_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    waits: list[bool] = []
    with Database(tmp_path / "imgfs.db") as database:
        images = LocalImages(database)
        monkeypatch.setattr(LocalNameLock, "wait", lambda _: waits.append(database.in_transaction))

        def put() -> None:
            images.record(TARGET.digest, Summary(0, (), ()))
            images.create(Image(NAME, TARGET))

        with database.transaction():
            put()
            assert waits == []
        assert waits == [False]
        images.record(TARGET.digest, Summary(1, (), ()))
        images.update(Image(NAME, TARGET))
        images.put(Image("docker.io/library/app:2", TARGET))
        images.untag(NAME)
        images.delete("docker.io/library/app:2")
        images.forget(TARGET.digest)
        assert waits == [False] * 7
        assert images.count() == 0

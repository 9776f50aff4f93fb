"""Tests of how long the kernel keeps listed names, and changes of names wait for that."""

import fcntl
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
import trio
from trio.testing import MockClock

from engine.stores import records
from engine.stores.local.name_lock import LocalNameLock
from imgfs.fuse.name_cache import KEPT, NameCache

LISTING, OTHER = 7, 8


class Store:
    """A store with a version that tests set, the cache of one mount, and a change that waits."""

    def __init__(self, directory: Path) -> None:
        self.version = 1
        self.names = NameCache(LocalNameLock(directory), lambda: self.version)
        self._directory = directory

    @property
    def is_free(self) -> bool:
        """Return whether a change of names would be reported at once."""
        try:
            with (self._directory / "names.lock").open("rb") as file:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True


def run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, test: Callable[[Store], Awaitable[None]]
) -> None:
    """Run a test with a clock that jumps to the next deadline."""

    async def main() -> None:
        monkeypatch.setattr(time, "monotonic", trio.current_time)
        store = Store(tmp_path)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(store.names.expire)
            await test(store)
            nursery.cancel_scope.cancel()

    trio.run(main, clock=MockClock(autojump_threshold=0))


def test_a_change_waits_for_the_reader_and_for_expiry(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def test(store: Store) -> None:
        assert store.names.keep(1) > trio.current_time()
        store.names.answered(LISTING)
        await trio.sleep(3 * KEPT)
        assert not store.is_free, "the reader has not run yet"
        store.names.read(LISTING)
        await trio.sleep(KEPT)
        assert not store.is_free, "the kernel still keeps the names"
        await trio.sleep(KEPT)
        assert store.is_free

    run(tmp_path, monkeypatch, test)


def test_a_change_does_not_wait_long_for_a_suspended_reader(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def test(store: Store) -> None:
        assert store.names.keep(1)
        store.names.answered(LISTING)
        await trio.sleep(records.LONGEST + KEPT)
        assert store.is_free

    run(tmp_path, monkeypatch, test)


def test_newer_names_are_not_kept_while_older_ones_may_be(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def test(store: Store) -> None:
        assert store.names.keep(1)
        store.names.answered(LISTING)
        store.names.read(LISTING)
        store.version = 2
        assert not store.names.keep(1), "read before the change"
        assert not store.names.keep(2), "somebody waits for the older ones"
        await trio.sleep(2 * KEPT)
        assert store.is_free
        assert store.names.keep(2)

    run(tmp_path, monkeypatch, test)


def test_a_change_does_not_wait_for_names_that_are_not_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def test(store: Store) -> None:
        store.version = 2
        assert not store.names.keep(1)
        assert not store.names.keep(None)
        store.names.read(OTHER)
        await trio.sleep(KEPT / 2)
        assert store.is_free

    run(tmp_path, monkeypatch, test)

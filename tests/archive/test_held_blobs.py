"""Blobs that a load holds in a store whose leases fail."""

import errno
from collections.abc import Iterator
from pathlib import Path

import pytest

from engine.archive.held_blobs import HeldBlobs
from engine.spec import digest as digests
from tests.local_engine import LocalEngine

ONE, TWO = digests.of_bytes(b"one"), digests.of_bytes(b"two")


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[LocalEngine]:
    with LocalEngine(tmp_path / "store") as opened:
        yield opened


@pytest.fixture
def held(engine: LocalEngine) -> Iterator[HeldBlobs]:
    blobs = HeldBlobs(engine.store)
    blobs.hold(ONE)
    blobs.hold(TWO)
    yield blobs
    blobs.close()
    assert engine.leases.list() == []


def test_what_is_released_is_protected_no_longer(engine: LocalEngine, held: HeldBlobs) -> None:
    held.release({ONE})
    assert engine.leases.protected() == {TWO}
    assert len(engine.leases.list()) == 1
    held.release({TWO})
    assert engine.leases.list() == []


@pytest.mark.parametrize("call", ["hold", "add"])
def test_all_stay_protected_where_no_new_lease_can_be_made(
    engine: LocalEngine, held: HeldBlobs, call: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as full:
        full.setattr(engine.leases, call, fail)
        with pytest.raises(OSError, match="No space left"):
            held.release({ONE})
    assert engine.leases.protected() == {ONE, TWO}
    assert len(engine.leases.list()) == 1
    held.release({ONE})
    assert engine.leases.protected() == {TWO}

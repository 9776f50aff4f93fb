"""A layer is learnt beside its writer, with the result of a pass over it."""

import os
from collections.abc import Callable
from threading import Event

import pytest

from engine.errors import LimitExceeded
from engine.layers.follower import LayerFollower, Outcome
from engine.layers.learning import learn
from engine.layers.table_codec import dump, load
from engine.limits import BUFFER_SIZE, Expansion
from engine.progress import ignore
from engine.spec.digest import of_bytes
from engine.threads import begin
from tests.layers.layers import PLAIN, Blob, gzipped, zstd_frame


def follower_of(data: bytes, limit: int = 1 << 40) -> LayerFollower:
    return LayerFollower(lambda size, at: data[at : at + size], Expansion(limit).add)


@pytest.mark.parametrize("kind", [gzipped, zstd_frame, bytes])
@pytest.mark.parametrize("step", [BUFFER_SIZE, 70_001, 1 << 40])
def test_the_outcome_is_that_of_a_pass(kind: Callable[[bytes], bytes], step: int) -> None:
    data = kind(PLAIN)
    follower = follower_of(data)
    for size in range(0, len(data), step):
        follower.advance(size)
    digest = of_bytes(data)
    outcome = follower.end(digest, len(data)).outcome()

    expected = learn(Blob(data), "layer", ignore)
    assert outcome.table == dump(expected.table)
    assert outcome.uncompressed is not None
    assert outcome.uncompressed.diff_id == of_bytes(PLAIN)
    assert outcome.uncompressed.size == len(PLAIN)


@pytest.mark.parametrize("kind", [gzipped, zstd_frame, bytes])
@pytest.mark.parametrize("first", [1, 2, 3, 5, 17])
def test_pieces_may_be_of_any_size(kind: Callable[[bytes], bytes], first: int) -> None:
    data = kind(PLAIN)
    follower = follower_of(data)
    follower.add(memoryview(data)[:first])
    for start in range(first, len(data), BUFFER_SIZE):
        follower.add(memoryview(data)[start : start + BUFFER_SIZE])
    outcome = follower.end(of_bytes(data), len(data)).outcome()
    assert outcome.uncompressed is not None
    assert outcome.uncompressed.diff_id == of_bytes(PLAIN)
    found, expected = load(outcome.table or b""), learn(Blob(data), "layer", ignore).table
    assert found is not None
    assert (found.compression, list(found.paths)) == (expected.compression, list(expected.paths))


def test_a_file_that_has_shrunk_is_an_error() -> None:
    followed = follower_of(b"").end(of_bytes(b""), 10)
    with pytest.raises(OSError, match="no longer there"):
        followed.outcome()


def test_more_may_be_written_after_an_end() -> None:
    data = gzipped(PLAIN)
    follower = follower_of(data)
    half = follower.end(of_bytes(data), len(data) // 2)
    whole = follower.end(of_bytes(data), len(data))
    assert half.outcome() == Outcome()
    found = load(whole.outcome().table or b"")
    expected = learn(Blob(data), "layer", ignore).table
    assert found is not None  # its points may be others: they depend on the pieces that were read
    assert found.checksums == expected.checksums
    assert list(found.paths) == list(expected.paths)


def test_damage_is_an_outcome() -> None:
    data = bytearray(gzipped(PLAIN))
    data[len(data) // 2] ^= 0xFF
    followed = follower_of(bytes(data)).end(of_bytes(data), len(data))
    assert followed.outcome() == Outcome()


def test_a_bomb_is_an_error() -> None:
    data = gzipped(PLAIN)
    follower = follower_of(data, BUFFER_SIZE)
    with pytest.raises(LimitExceeded):
        follower.end(of_bytes(data), len(data)).outcome()
    with pytest.raises(LimitExceeded):
        follower.advance(len(data))


def test_nothing_is_read_after_a_stop() -> None:
    data = gzipped(PLAIN)
    reading = Event()
    reads: list[int] = []

    def pread(size: int, offset: int) -> bytes:
        reads.append(offset)
        reading.set()
        return data[offset : offset + size]

    follower = LayerFollower(pread, lambda _: None)
    follower.advance(2 * BUFFER_SIZE)
    reading.wait()
    follower.stop()
    count = len(reads)
    assert follower.end(of_bytes(data), len(data)).outcome() == Outcome()
    assert len(reads) == count


def test_what_reading_raises_is_raised() -> None:
    def pread(_size: int, _offset: int) -> bytes:
        raise OSError(5, "disk")

    follower = LayerFollower(pread, lambda _: None)
    followed = follower.end(of_bytes(b""), 10)
    with pytest.raises(OSError, match="disk"):
        followed.outcome()


def test_an_interrupt_while_the_threads_start_does_not_hold_up_the_end(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def interrupted() -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("engine.layers.follower.hashing_threads", interrupted)
    data = gzipped(PLAIN)
    follower = follower_of(data)
    with pytest.raises(KeyboardInterrupt):
        follower.advance(2 * BUFFER_SIZE)
    follower.stop()


def test_a_layer_that_waits_for_a_thread_keeps_nothing_in_memory(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    waiting: list[LayerFollower] = []

    class Threads:
        are_all_busy = True

        def begin(self, one: LayerFollower) -> None:
            waiting.append(one)

    monkeypatch.setattr("engine.layers.follower.hashing_threads", Threads)
    data = bytes(8 * BUFFER_SIZE)
    reads: list[int] = []

    def pread(size: int, offset: int) -> bytes:
        reads.append(offset)
        return data[offset : offset + size]

    follower = LayerFollower(pread, lambda _: None)
    for start in range(0, len(data), BUFFER_SIZE):
        follower.add(memoryview(data)[start : start + BUFFER_SIZE])
    (one,) = waiting
    for update in one.parts():
        if update is not None:
            update.apply()
    assert sorted({*reads}) == list(range(0, len(data), BUFFER_SIZE))


def test_a_layer_is_learnt_while_the_shared_threads_wait() -> None:
    """They may wait for a download, whose hash the threads that learn have to compute."""
    done = Event()
    waiting = [begin(done.wait, 60) for _ in range(os.cpu_count() or 1)]
    data = gzipped(PLAIN)
    follower = follower_of(data)
    try:
        follower.advance(len(data))
        outcome = follower.end(of_bytes(data), len(data)).outcome()
    finally:
        done.set()
    assert outcome.uncompressed is not None
    assert outcome.uncompressed.diff_id == of_bytes(PLAIN)
    assert all(result() for result in waiting)

"""The work of which most is left is next, few works are begun at a time, and two are hashed at a
time.
"""

import hashlib
import random
from collections.abc import Iterator
from contextlib import closing
from threading import Event, Semaphore

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.hashing import threads as hashing
from engine.hashing.sha256 import Hash, new, update_both
from engine.hashing.threads import HashingThreads
from engine.hashing.updates import Hashing, Update

STEP = 10


class Layer:
    """Work in steps of STEP bytes, which are recorded by its name, its end by a capital."""

    def __init__(self, name: str, size: int, steps: list[str]) -> None:
        self.name = name
        self._steps = steps
        self.is_awaited = False
        self.ended = Event()
        self.is_begun = False
        self.left = size

    @property
    def is_urgent(self) -> bool:
        return self.is_awaited or not self.left

    def parts(self) -> Iterator[Update | None]:
        while self.left:
            self.is_begun = True
            self.left -= STEP
            self._steps.append(self.name)
            yield None
        self._steps.append(self.name.upper())
        self.ended.set()


class Gate:
    """Work that occupies a thread until it is released."""

    is_begun = is_urgent = True
    left = 0

    def __init__(self) -> None:
        self.entered, self.released, self.ended = Event(), Event(), Event()

    def parts(self) -> Iterator[Update | None]:
        yield from ()
        self.entered.set()
        assert self.released.wait(60)
        self.ended.set()


def steps_of(sizes: dict[str, int], awaited: str = "") -> str:
    """Return the names of layers in the order of the steps that one thread makes."""
    threads = HashingThreads(1)
    gate = Gate()
    threads.begin(gate)
    assert gate.entered.wait(60)
    assert threads.are_all_busy
    steps: list[str] = []
    layers = [Layer(name, size, steps) for name, size in sizes.items()]
    for layer in layers:
        threads.begin(layer)
        if layer.name == awaited:
            layer.is_awaited = True
            threads.hurry(layer)
    gate.released.set()
    assert all(layer.ended.wait(60) for layer in layers)
    return "".join(steps)


def test_the_layer_of_which_most_is_left_is_next_so_that_all_end_together() -> None:
    assert steps_of({"a": 20, "b": 50}) == "bbbbabBaA"


def test_few_layers_are_begun_before_one_is_completed() -> None:
    sizes = {"a": 30, "b": 20, "c": 60, "d": 50, "e": 40}
    assert steps_of(sizes) == "ccdcdeeeeEcdaaaAcdbcCdDbB"


def test_a_layer_of_which_nothing_is_left_ends_at_once() -> None:
    assert steps_of({"a": 20, "b": 0}) == "BaaA"


def test_a_layer_that_somebody_waits_for_is_first_also_if_it_is_one_too_many() -> None:
    sizes = {"a": 40, "b": 50, "c": 60, "d": 20}
    assert steps_of(sizes, awaited="d").startswith("ddD")
    assert steps_of(sizes).endswith("D")


_BYTES = random.Random(11).randbytes(100_000)


def _hashed(pieces: list[int]) -> Hashing[str]:
    """Yield pieces of so many bytes; return their digest."""
    one = new()
    for size in pieces:
        yield Update(one, memoryview(_BYTES)[:size])
    return one.hexdigest()


def _expected(pieces: list[int]) -> str:
    return hashlib.sha256(b"".join(_BYTES[:size] for size in pieces)).hexdigest()


_PIECES = st.lists(st.sampled_from([0, 1, 63, 64, 5000, 100_000]), max_size=5)


@settings(max_examples=50)
@given(st.lists(_PIECES, max_size=12), st.sampled_from([1, 2, 3]), st.sampled_from([1, 2]))
def test_all_that_work_yields_is_hashed_in_order(
    works: list[list[int]], count: int, at_once: int
) -> None:
    with pytest.MonkeyPatch.context() as patch, closing(HashingThreads(count)) as threads:
        patch.setattr(hashing, "AT_ONCE", at_once)
        results = [threads.submit(_hashed(pieces), sum(pieces)) for pieces in works]
        assert [result() for result in results] == [_expected(pieces) for pieces in works]


def test_a_thread_hashes_for_two_works_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes: list[tuple[int, int]] = []

    def recorded(one: Hash, data: memoryview, two: Hash, other_data: memoryview) -> None:
        sizes.append((len(data), len(other_data)))
        update_both(one, data, two, other_data)

    monkeypatch.setattr(hashing, "AT_ONCE", 2)
    monkeypatch.setattr(hashing, "update_both", recorded)
    gate = Gate()
    works = [[3000] * 4, [2000] * 4, [1000] * 4]
    with closing(HashingThreads(1)) as threads:
        threads.begin(gate)
        assert gate.entered.wait(60)
        results = [threads.submit(_hashed(pieces), sum(pieces)) for pieces in works]
        gate.released.set()
        assert [result() for result in results] == [_expected(pieces) for pieces in works]
    assert all(size == other for size, other in sizes)
    assert 2 * sum(size for size, _ in sizes) >= sum(map(sum, works)) / 2


class Idle:
    """Work without bytes to hash, of which as much is left until an event."""

    is_begun = is_urgent = False

    def __init__(self, ended: Event, left: int) -> None:
        self._ended = ended
        self.left = left

    def parts(self) -> Iterator[Update | None]:
        self.is_begun = True
        while not self._ended.wait(0.001):
            yield None


class Hashed:
    """Work that hashes two pieces."""

    is_begun = False
    left = 6000

    def __init__(self, is_urgent: bool) -> None:
        self.is_urgent = is_urgent
        self.ended = Event()

    def parts(self) -> Iterator[Update | None]:
        self.is_begun = True
        yield from (Update(new(), memoryview(_BYTES)[:size]) for size in (5000, 5000))
        self.ended.set()


@pytest.mark.parametrize("is_urgent", [True, False])
def test_work_that_waits_for_a_second_one_is_not_held_up_by_work_without_any(
    monkeypatch: pytest.MonkeyPatch, is_urgent: bool
) -> None:
    monkeypatch.setattr(hashing, "AT_ONCE", 2)
    ended, gate, work = Event(), Gate(), Hashed(is_urgent)
    with closing(HashingThreads(1)) as threads:
        threads.begin(gate)
        assert gate.entered.wait(60)
        threads.begin(Idle(ended, 5000))
        threads.begin(work)
        gate.released.set()
        try:
            assert work.ended.wait(60)
        finally:
            ended.set()


def test_thousands_of_works_wait_at_little_cost() -> None:
    """Each of them is looked at a few times, not once for each of the others."""
    looks = 0

    class Small:
        is_begun = is_urgent = False

        @property
        def left(self) -> int:
            nonlocal looks
            looks += 1
            return 1

        def parts(self) -> Iterator[Update | None]:
            yield from ()
            ended.release()

    ended, gate, count = Semaphore(0), Gate(), 2000
    with closing(HashingThreads(1)) as threads:
        threads.begin(gate)
        assert gate.entered.wait(60)
        for _ in range(count):
            threads.begin(Small())
        gate.released.set()
        for _ in range(count):
            assert ended.acquire(timeout=60)
    assert looks < 100 * count


def test_what_work_raises_is_raised_and_other_work_goes_on() -> None:
    def broken() -> Hashing[str]:
        yield Update(new(), memoryview(b"x"))
        raise OSError(5, "disk")

    with closing(HashingThreads(1)) as threads:
        failing, going_on = threads.submit(broken(), 1), threads.submit(_hashed([5000]), 5000)
        assert going_on() == _expected([5000])
        with pytest.raises(OSError, match="disk"):
            failing()


def test_work_that_waits_when_the_threads_are_closed_is_not_begun() -> None:
    begun = Event()

    def work() -> Hashing[None]:
        begun.set()
        yield Update(new(), memoryview(b"x"))

    gate = Gate()
    threads = HashingThreads(1)
    threads.begin(gate)
    assert gate.entered.wait(60)
    threads.submit(work(), 1)
    threads.close()
    gate.released.set()
    assert gate.ended.wait(60)
    assert not begun.is_set()

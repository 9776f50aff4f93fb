"""Tests of turns: one thread at a time does the work of a key."""

from threading import Lock, Thread

import pytest

from imgfs.vfs.turns import Turns


def test_one_thread_at_a_time_does_the_work_of_a_key() -> None:
    """Also if the first one ends while others wait, and more of them come then."""
    turns = Turns()
    working = Lock()
    overlaps: list[bool] = []

    def work() -> None:
        with turns.of("key"):
            overlaps.append(not working.acquire(blocking=False))
            late = Thread(target=nothing)
            late.start()
            started.append(late)
            working.release()

    def nothing() -> None:
        with turns.of("key"):
            overlaps.append(not working.acquire(blocking=False))
            working.release()

    with turns.of("key"):
        started = [Thread(target=work) for _ in range(8)]
        for thread in started:
            thread.start()
        with turns.of("another key"):
            assert overlaps == []
    for thread in started:
        thread.join()
    assert overlaps == [False] * 16


def test_a_failure_ends_a_turn() -> None:
    turns = Turns()
    with pytest.raises(ValueError, match="it failed"), turns.of("key"):
        raise ValueError("it failed")
    with turns.of("key"):
        pass

"""Whether a registry answers, and how long that is waited for."""

from collections.abc import Callable
from threading import Event

import pytest

from engine.stores.registry.reachability import Reachability


class Clock:
    """A clock that is set."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def counted(answers: list[bool], asked: list[int]) -> Callable[[], bool]:
    def ask() -> bool:
        asked.append(1)
        return answers[len(asked) - 1]

    return ask


def test_an_answer_is_believed_for_a_moment(clock: Clock) -> None:
    asked: list[int] = []
    reachability = Reachability(counted([True, True], asked), clock)
    assert reachability.is_reachable(90)
    assert reachability.is_reachable(90)
    assert len(asked) == 1
    clock.now = 6
    assert reachability.is_reachable(90)
    assert len(asked) == 2


def test_a_registry_that_does_not_answer_is_left_alone_for_a_moment(clock: Clock) -> None:
    asked: list[int] = []
    reachability = Reachability(counted([False, True], asked), clock)
    assert not reachability.is_reachable(90)
    assert not reachability.is_reachable(90)
    assert reachability.is_away
    assert len(asked) == 1
    clock.now = 11
    assert reachability.is_reachable(90)
    assert not reachability.is_away


def test_one_silence_is_waited_for_once(clock: Clock) -> None:
    answer = Event()
    reachability = Reachability(lambda: answer.wait(30), clock)
    assert not reachability.is_reachable(0)
    clock.now = 1
    assert not reachability.is_reachable(1)
    answer.set()
    clock.now = 2
    assert reachability.is_reachable(30)


def test_any_answer_counts(clock: Clock) -> None:
    reachability = Reachability(lambda: False, clock)
    assert not reachability.is_reachable(90)
    reachability.note(is_answer=True)
    assert reachability.is_reachable(90)

"""kill -9 at any moment of every command that changes a store."""

import random
import shutil
from pathlib import Path

import pytest

from tests.crash.conftest import ROUNDS
from tests.crash.judge import judge_of
from tests.crash.kills import Forks
from tests.crash.operations import OPERATIONS, Operation

KILLED = -9
FORKS_KILLED = 20
pytestmark = pytest.mark.timeout(300 * ROUNDS)


@pytest.mark.parametrize("operation", OPERATIONS, ids=str)
def test_killed_before_a_call(operation: Operation, room: Path, forked: Forks) -> None:
    place = operation.prepare(room / "place")
    judge = judge_of(operation, place, room / "done")
    status, calls = forked.run(0, operation.arguments(place.copy(room / "whole")))
    assert status == 0
    for at in drawn(range(1, calls + 1), FORKS_KILLED * ROUNDS):
        victim = place.copy(room / f"{at}")
        status, _ = forked.run(at, operation.arguments(victim))
        assert status in (KILLED, 0)
        judge.judge(victim, is_done=status == 0)
        shutil.rmtree(victim.root)


def drawn(moments: range, number: int) -> list[int]:
    """So many of them at random, the first and the last among them; or all."""
    if number >= len(moments):
        return list(moments)
    chosen = random.Random(len(moments)).sample(moments, number - 2)
    return sorted({moments[0], *chosen, moments[-1]})

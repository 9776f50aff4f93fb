"""kill -9 at every moment of every command that changes a store."""

import shutil
from itertools import count
from pathlib import Path

import pytest

from tests.crash.judge import judge_of
from tests.crash.kills import Forks
from tests.crash.operations import OPERATIONS, Operation

KILLED = -9


@pytest.mark.parametrize("operation", OPERATIONS, ids=str)
def test_killed_before_each_call(operation: Operation, room: Path, forked: Forks) -> None:
    place = operation.prepare(room / "place")
    judge = judge_of(operation, place, room / "done")
    for at in count(1):
        victim = place.copy(room / f"{at}")
        status = forked.run(at, operation.arguments(victim))
        assert status in (KILLED, 0)
        judge.judge(victim, is_done=status == 0)
        shutil.rmtree(victim.root)
        if status == 0:
            break
    print(f"{at - 1} kills")

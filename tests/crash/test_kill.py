"""kill -9 at every moment of each command that changes a store."""

import shutil
from pathlib import Path

import pytest

from tests.crash import straces
from tests.crash.cases import ROUNDS, Case, sample
from tests.crash.judge import examine
from tests.crash.kills import Forks
from tests.crash.straces import Recording
from tests.local_engine import LocalEngine

KILLED = -9
CALLS = 16
SYSTEM_CALLS = 3
pytestmark = pytest.mark.timeout(300 + 100 * ROUNDS)


def test_a_kill_before_any_call_of_python_leaves_a_sound_store(case: Case, forked: Forks) -> None:
    """The process is forked instead of started, which costs little."""
    status, calls = forked.run(0, case.operation.arguments(case.victim()))
    assert status == 0
    for at in sample(range(1, calls + 1), CALLS * ROUNDS):
        victim = case.victim()
        status, _ = forked.run(at, case.operation.arguments(victim))
        assert status in (KILLED, 0)
        case.judge.judge_killed(victim, is_done=status == 0)
        shutil.rmtree(victim.root)


def test_a_kill_before_any_system_call_leaves_a_sound_store(
    case: Case, recorded: Recording
) -> None:
    """The calls are those that change files, SQLite's included, of the real command."""
    for call, number in sample(recorded.moments, SYSTEM_CALLS * ROUNDS):
        victim = case.victim()
        status = straces.kill(case.command(victim), call, number)
        assert status in (KILLED, 0)
        case.judge.judge_killed(victim, is_done=status == 0)
        shutil.rmtree(victim.root)


def test_a_store_that_was_half_made_is_completed(room: Path) -> None:
    """The temporary file of the version must not remain."""
    store = room / "store"
    store.mkdir(mode=0o700)
    (store / ".version").write_bytes(b"")
    LocalEngine(store).close()
    assert (store / "version").read_bytes() == b"1\n"
    assert examine(store) == {}

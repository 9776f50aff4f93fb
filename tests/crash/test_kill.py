"""kill -9 at any moment of every command that changes a store."""

import shutil
from pathlib import Path

import pytest

from tests.crash import straces
from tests.crash.cases import ROUNDS, Case, drawn
from tests.crash.judge import examine
from tests.crash.kills import Forks
from tests.crash.straces import Recording
from tests.local_engine import LocalEngine

KILLED = -9
CALLS = 16
SYSTEM_CALLS = 3
pytestmark = pytest.mark.timeout(300 + 100 * ROUNDS)


def test_killed_before_a_call(case: Case, forked: Forks) -> None:
    """Of Python's calls, where a new process costs little."""
    status, calls = forked.run(0, case.operation.arguments(case.victim()))
    assert status == 0
    for at in drawn(range(1, calls + 1), CALLS * ROUNDS):
        victim = case.victim()
        status, _ = forked.run(at, case.operation.arguments(victim))
        assert status in (KILLED, 0)
        case.judge.judge_killed(victim, is_done=status == 0)
        shutil.rmtree(victim.root)


def test_killed_before_a_system_call(case: Case, recorded: Recording) -> None:
    """Of the system calls that change a file, SQLite's too, of the real command."""
    for call, number in drawn(recorded.moments, SYSTEM_CALLS * ROUNDS):
        victim = case.victim()
        status = straces.kill(case.command(victim), call, number)
        assert status in (KILLED, 0)
        case.judge.judge_killed(victim, is_done=status == 0)
        shutil.rmtree(victim.root)


def test_a_store_whose_making_was_cut_short(room: Path) -> None:
    """Nothing stays of the version that was being written."""
    store = room / "store"
    store.mkdir(mode=0o700)
    (store / ".version").write_bytes(b"")
    LocalEngine(store).close()
    assert (store / "version").read_bytes() == b"1\n"
    assert examine(store) == {}

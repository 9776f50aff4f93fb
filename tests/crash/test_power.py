"""The power fails at any moment of every command that changes a store."""

import random
import shutil
from collections.abc import Mapping

import pytest

from tests.crash.cases import ROUNDS, Case, drawn
from tests.crash.disk import Change, Journal
from tests.crash.judge import check_archive
from tests.crash.operations import Place
from tests.crash.straces import Recording

STATES = 20
pytestmark = pytest.mark.timeout(300 + 200 * ROUNDS)


def test_the_power_fails(case: Case, recorded: Recording) -> None:
    """What was not synced may be lost, in any part; what had been told to be done may not."""
    for number, (changes, is_done) in enumerate(drawn(_states(recorded.journal), STATES * ROUNDS)):
        place = Place(case.room / f"state-{number}")
        recorded.journal.disk(changes).write_out(place.root)
        if case.operation.replaces_output:
            check_archive(place.output)
        case.judge.judge(place, is_done)
        shutil.rmtree(place.root)


def _states(journal: Journal) -> list[tuple[Mapping[int, Change], bool]]:
    """The changes that can be left, those that come to the same but once; and whether the command
    was done by then.
    """
    end = len(journal.steps)
    found: dict[tuple[bytes, bool], Mapping[int, Change]] = {}
    for moment in journal.moments() if ROUNDS == 1 else range(end + 1):
        for changes in journal.states(moment, random.Random(moment), ROUNDS // 10):
            found.setdefault((journal.disk(changes).fingerprint(), moment == end), changes)
    return [(changes, is_done) for (_, is_done), changes in found.items()]

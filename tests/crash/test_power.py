"""A power failure at every moment of each command that changes a store."""

import random
import shutil
from collections.abc import Mapping

import pytest

from tests.crash.cases import ROUNDS, Case, sample
from tests.crash.disk import Change, Journal
from tests.crash.judge import check_archive
from tests.crash.operations import Place
from tests.crash.straces import Recording

STATES = 20
pytestmark = pytest.mark.timeout(300 + 200 * ROUNDS)


def test_a_power_failure_leaves_a_sound_store(case: Case, recorded: Recording) -> None:
    """Unsynced changes may be lost in any part; reported success must not be."""
    for number, (changes, is_done) in enumerate(sample(_states(recorded.journal), STATES * ROUNDS)):
        place = Place(case.room / f"state-{number}")
        recorded.journal.disk(changes).write_out(place.root)
        if case.operation.replaces_output:
            check_archive(place.output)
        case.judge.judge(place, is_done)
        shutil.rmtree(place.root)


def _states(journal: Journal) -> list[tuple[Mapping[int, Change], bool]]:
    """Yield the sets of changes that can remain, each resulting disk once, and whether the command
    had finished.
    """
    end = len(journal.steps)
    found: dict[tuple[bytes, bool], Mapping[int, Change]] = {}
    for moment in journal.moments() if ROUNDS == 1 else range(end + 1):
        for changes in journal.states(moment, random.Random(moment), ROUNDS // 10):
            found.setdefault((journal.disk(changes).fingerprint(), moment == end), changes)
    return [(changes, is_done) for (_, is_done), changes in found.items()]

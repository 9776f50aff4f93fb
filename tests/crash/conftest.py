"""Fixtures: directories for stores that are interrupted, and the operations."""

import os
import tempfile
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from tests.crash import straces
from tests.crash.cases import Case
from tests.crash.kills import Forks
from tests.crash.operations import OPERATIONS, Operation


@pytest.fixture
def room(tmp_path: Path) -> Iterator[Path]:
    """Return a directory for short-lived stores, in memory if possible."""
    memory = Path("/dev/shm")
    if not os.access(memory, os.W_OK):
        yield tmp_path
        return
    with tempfile.TemporaryDirectory(prefix="imgfs-crash-", dir=memory) as path:
        yield Path(path)


@pytest.fixture(scope="session")
def forked() -> Iterator[Forks]:
    with closing(Forks()) as started:
        yield started


@pytest.fixture(params=OPERATIONS, ids=str)
def case(request: pytest.FixtureRequest, room: Path) -> Case:
    operation: Operation = request.param
    return Case(operation, room)


@pytest.fixture
def recorded(case: Case) -> straces.Recording:
    """Record the changes to files that the operation of the case makes."""
    if reason := straces.lacking():
        pytest.skip(reason)
    victim = case.victim()
    return straces.record(case.command(victim), victim.root, case.room / "log")

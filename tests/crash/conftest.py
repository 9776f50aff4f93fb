"""Where stores fail, and how often."""

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.crash.kills import Forks, forks

ROUNDS = int(os.environ.get("IMGFS_CRASH_ROUNDS", "1"))


@pytest.fixture(scope="session")
def rounds() -> int:
    """How often, in the measure of the environment."""
    return ROUNDS


@pytest.fixture
def room(tmp_path: Path) -> Iterator[Path]:
    """A directory for stores that come and go, in memory if it can be."""
    memory = Path("/dev/shm")  # noqa: S108 (a directory of our own is made in it)
    if not os.access(memory, os.W_OK):
        yield tmp_path
        return
    with tempfile.TemporaryDirectory(prefix="imgfs-crash-", dir=memory) as path:
        yield Path(path)


@pytest.fixture(scope="session")
def forked() -> Iterator[Forks]:
    with forks() as started:
        yield started

"""Fixtures: stores, in memory where possible, since these tests sync files often."""

import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path

import pytest

from tests.cli.command import Command
from tests.faults import disks, stores
from tests.local_engine import LocalEngine

_MEMORY = Path("/dev/shm")
_DISKS = {"tmpfs": partial(disks.memory, size="16m"), "ext4": partial(disks.ext4, size=16 << 20)}


@pytest.fixture
def tmp_path(tmp_path: Path) -> Iterator[Path]:
    if not os.access(_MEMORY, os.W_OK):
        yield tmp_path
        return
    with tempfile.TemporaryDirectory(prefix="imgfs-faults-", dir=_MEMORY) as name:
        yield Path(name)


@pytest.fixture
def store(tmp_path: Path) -> Path:
    """Return the path of a closed store with the image `base:1`."""
    with LocalEngine(tmp_path / "store") as engine:
        stores.load(engine, stores.BASE)
    return tmp_path / "store"


@pytest.fixture
def imgfs(store: Path) -> Command:
    """Return a function that runs the command as a process on that store."""
    return Command(store)


@pytest.fixture(params=_DISKS)
def disk(request: pytest.FixtureRequest, tmp_path: Path, store: Path) -> Iterator[Path]:
    """Return the path of a disk of 16 MB with a copy of the store."""
    if os.getuid():
        pytest.skip("a small disk needs root")
    make: Callable[[Path], AbstractContextManager[Path]] = _DISKS[request.param]
    with make(tmp_path / "disk") as path:
        stores.copied(store, path / "store")
        yield path

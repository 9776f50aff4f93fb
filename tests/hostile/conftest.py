"""A store with an image, which hostile archives must not change."""

import os
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import pytest

from tests import archives
from tests.archives import ImageParts
from tests.cli.command import Command, Done
from tests.hostile.case import Case
from tests.local_engine import LocalEngine
from tests.mounts import IMGFS

BEFORE = ImageParts(layers=[archives.layer("before", os.urandom(100_000))])
_MEASURED = Path(__file__).with_name("measured.py")
_PIECE = 1 << 20

Load = Callable[[Case, Path], tuple[Done, int]]


def pieces(data: Iterable[bytes]) -> Iterator[memoryview]:
    """An archive as it is written."""
    for one in data:
        for offset in range(0, len(one), _PIECE):
            yield memoryview(one)[offset : offset + _PIECE]


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """For the whole module, since a case that is refused changes nothing."""
    path: Path = tmp_path_factory.mktemp("hostile") / "store"
    with LocalEngine(path) as engine, engine.begin_import() as session:
        session.feed(archives.docker_archive((BEFORE, ["before:1"])))
        session.finish()
    return path


@pytest.fixture
def load(tmp_path: Path) -> Load:
    """Load a case by the command: how that ended, and the most memory that it had, in bytes."""

    def run(case: Case, store: Path) -> tuple[Done, int]:
        archive, told = tmp_path / "archive", tmp_path / "memory"
        with archive.open("wb") as file:
            for piece in pieces(case.make()):
                file.write(piece)
        command = [*IMGFS, "load", "--quiet", *case.options]
        with archive.open("rb") as file:
            done = subprocess.run(
                [sys.executable, "-S", _MEASURED, told, *command],
                stdin=file,
                capture_output=True,
                check=False,
                env=Command(store).environment,
            )
        archive.unlink()
        return Done(done.returncode, done.stdout, done.stderr), int(told.read_text("ascii"))

    return run

"""Fixtures: a store for each test, and two ways to run a command on it."""

from collections.abc import Callable
from pathlib import Path

import pytest

from imgfs import cli
from tests.cli.command import Command, Done
from tests.local_engine import LocalEngine


@pytest.fixture
def store(tmp_path: Path) -> Path:
    return tmp_path / "store"


@pytest.fixture
def imgfs(store: Path) -> Command:
    """Return a function that runs the command as a process."""
    return Command(store)


@pytest.fixture
def inside(store: Path, capsysbinary: pytest.CaptureFixture[bytes]) -> Callable[..., Done]:
    """Return a function that runs the command in this process, which is faster."""

    def run(*arguments: str | Path) -> Done:
        capsysbinary.readouterr()
        status = cli.run(["--store", str(store), *map(str, arguments)])
        return Done(status, *capsysbinary.readouterr())

    return run


@pytest.fixture
def bare(capsysbinary: pytest.CaptureFixture[bytes]) -> Callable[..., Done]:
    """Return a function that runs a command line without adding a store."""

    def run(*arguments: str | Path) -> Done:
        capsysbinary.readouterr()
        status = cli.run([str(argument) for argument in arguments])
        return Done(status, *capsysbinary.readouterr())

    return run


@pytest.fixture
def stock(store: Path) -> Callable[..., None]:
    """Return a function that loads archives without a command."""

    def load(*archives: bytes) -> None:
        with LocalEngine(store) as engine:
            for archive in archives:
                with engine.begin_import() as session:
                    session.feed(archive)
                    session.finish()

    return load

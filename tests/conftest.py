"""Fixtures for every test: the same generated examples in each run, and no access to the user's
store.
"""

import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import hypothesis
import pytest

from tests.mounts import Mounted, lacking, mounts

hypothesis.settings.register_profile("imgfs", deadline=None, derandomize=True, database=None)
hypothesis.settings.load_profile("imgfs")


@pytest.fixture(scope="session", autouse=True)
def _store_of_nobody(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Set a default store that is removed after the tests."""
    store: Path = tmp_path_factory.mktemp("default") / "store"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("IMGFS_STORE", str(store))
        yield


@pytest.fixture(scope="session", autouse=True)
def _signals_that_end() -> Iterator[None]:
    """Restore signals that nohup or & have ignored, since they must end the commands of the
    tests.
    """
    ignored = [n for n in (signal.SIGINT, signal.SIGHUP) if signal.getsignal(n) == signal.SIG_IGN]
    for number in ignored:
        signal.signal(number, lambda *_: None)
    yield
    for number in ignored:
        signal.signal(number, signal.SIG_IGN)


@pytest.fixture
def mount(tmp_path: Path) -> Iterator[Callable[..., Mounted]]:
    """Mount a store: mount(store="store", at="mnt", options=(), launcher=()) → Mounted."""
    if reason := lacking():
        pytest.skip(reason)
    with mounts(tmp_path) as start:
        yield start


@pytest.fixture
def mounted(mount: Callable[..., Mounted]) -> Mounted:
    """Mount an empty store."""
    return mount()

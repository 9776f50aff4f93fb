"""Fixtures of tests that mount. The tests are skipped on machines where nothing can be mounted."""

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.local_engine import LocalEngine
from tests.mount.clock import Clock
from tests.mounts import Mounted, lacking


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if reason := lacking():
        for item in items:
            if Path(__file__).parent in item.path.parents:
                item.add_marker(pytest.mark.skip(reason=reason))


@pytest.fixture
def engine(mounted: Mounted) -> Iterator[LocalEngine]:
    """Open the store of `mounted` in this process, while the mount's process uses it too."""
    with LocalEngine(mounted.store) as opened:
        yield opened


@pytest.fixture
def clock(tmp_path: Path) -> Clock:
    return Clock(tmp_path / "clock")


_WITHOUT_NATIVE = (sys.executable, str(Path(__file__).with_name("without_native.py")))


@pytest.fixture(params=["passthrough", "no-passthrough", "without-native"])
def mounted_each_way(request: pytest.FixtureRequest, mount: Callable[..., Mounted]) -> Mounted:
    """Mount an empty store with kernel passthrough, without it, and without the native library."""
    if request.param == "no-passthrough":
        return mount(options=("--no-passthrough",))
    if request.param == "without-native":
        return mount(launcher=_WITHOUT_NATIVE)
    mounted = mount()
    if (reported := mounted.status("passthrough")) != "on":
        pytest.skip(f"passthrough is {reported}")
    return mounted

"""Every test here needs a mount; each is skipped where there can be none."""

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.local_engine import LocalEngine
from tests.mounts import Mounted, lacking


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if reason := lacking():
        for item in items:
            if Path(__file__).parent in item.path.parents:
                item.add_marker(pytest.mark.skip(reason=reason))


@pytest.fixture
def engine(mounted: Mounted) -> Iterator[LocalEngine]:
    """The store of `mounted`, opened by another process: this one."""
    with LocalEngine(mounted.store) as opened:
        yield opened


_WITHOUT_NATIVE = (sys.executable, str(Path(__file__).with_name("without_native.py")))


@pytest.fixture(params=["passthrough", "no-passthrough", "without-native"])
def mounted_each_way(request: pytest.FixtureRequest, mount: Callable[..., Mounted]) -> Mounted:
    """An empty store, mounted so that the kernel reads blobs by itself, so that it does not, and by
    an imgfs that was built without its native library.
    """
    if request.param == "no-passthrough":
        return mount(options=("--no-passthrough",))
    if request.param == "without-native":
        return mount(launcher=_WITHOUT_NATIVE)
    mounted = mount()
    if (told := mounted.status("passthrough")) != "on":
        pytest.skip(f"passthrough is {told}")
    return mounted

"""Every test here needs a mount; each is skipped where there can be none."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from engine.engine import Engine
from tests.mounts import Mounted, lacking


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if reason := lacking():
        for item in items:
            if Path(__file__).parent in item.path.parents:
                item.add_marker(pytest.mark.skip(reason=reason))


@pytest.fixture
def engine(mounted: Mounted) -> Iterator[Engine]:
    """The store of `mounted`, opened by another process: this one."""
    with Engine(mounted.store) as opened:
        yield opened

"""The search for points."""

import gc
from weakref import ref

import pytest

from engine.layers.points import PointFinder
from tests.layers.layers import PLAIN, gzipped, zstd_frame


@pytest.mark.parametrize("compression", ["gzip", "zstd"])
def test_a_finder_is_released_at_once(compression: str) -> None:
    """Its buffers would add up over the layers of an image."""
    finder = PointFinder(compression)
    data = gzipped(PLAIN) if compression == "gzip" else zstd_frame(PLAIN)
    for _ in finder.feed(data):
        pass
    finder.finish()
    gone = ref(finder)
    gc.disable()
    try:
        del finder
        assert gone() is None
    finally:
        gc.enable()

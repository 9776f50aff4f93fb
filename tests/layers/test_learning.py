"""A layer that is learnt by one thread, or by several, has the same table."""

import gzip
import io
import random
import tarfile
from collections.abc import Callable

import pytest

from engine.errors import BrokenArchive
from engine.layers.learning import LayerLearner, Learnt, learn
from engine.limits import Limits
from engine.progress import ignore
from tests.filetree.layers import file, layer
from tests.layers.layers import Blob, gzipped, zstd_frame


def _layer() -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        noise = random.Random(5)
        for number in range(60):
            member = tarfile.TarInfo(f"dir/{number}")
            content = b" ".join(noise.choices([b"stone", b"river", b"tree"], k=40_000))
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return gzip.compress(out.getvalue(), 6, mtime=0)


def _learnt(layer: bytes, are_cores_busy: list[bool]) -> Learnt:
    """Learn a layer; the answers of `are_cores_busy` come in turn."""
    calls = iter(are_cores_busy * 1000)
    learner = LayerLearner("gzip", Limits(), lambda: next(calls))
    step = 300_000
    for start in range(0, len(layer), step):
        for update in learner.feed(layer[start : start + step], lambda _size: None):
            assert update is not None
            update.apply()
    return learner.finish()


@pytest.mark.parametrize("answers", [[True], [True, False], [False, False, True]])
def test_busy_cores_change_nothing(answers: list[bool]) -> None:
    layer = _layer()
    expected, found = _learnt(layer, [False]), _learnt(layer, answers)
    assert found.uncompressed == expected.uncompressed
    assert found.table.checksums == expected.table.checksums
    assert found.table.points == expected.table.points
    assert list(map(found.table.entry, range(60))) == list(map(expected.table.entry, range(60)))


@pytest.mark.parametrize("compress", [gzipped, zstd_frame])
def test_a_layer_that_expands_to_more_than_the_limit_is_not_learnt(
    compress: Callable[[bytes], bytes],
) -> None:
    plain = layer(file("f", "x" * 100_000))
    stored, size = Blob(compress(plain)), len(plain)
    within, below = (Limits(max_expanded_bytes=most) for most in (size, size - 1))
    found = learn(stored, "layer a", ignore, within).uncompressed
    assert found is not None
    assert found.size == size
    with pytest.raises(BrokenArchive, match=f"^layer a: is too large: .* limit {size - 1}"):
        learn(stored, "layer a", ignore, below)


def test_a_layer_is_read_no_further_than_to_the_limit() -> None:
    stored = Blob(gzipped(layer(file("f", random.Random(1).randbytes(3 << 20).hex()))))
    with pytest.raises(BrokenArchive, match="is too large"):
        learn(stored, "layer", ignore, Limits(max_expanded_bytes=1 << 20))
    assert set(stored.asked) == {0}

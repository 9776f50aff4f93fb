"""A layer that is learnt by one thread, or by several, has the same table."""

import gzip
import io
import random
import tarfile

import pytest

from engine.layers.learning import LayerLearner, Learnt
from engine.limits import Limits


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
        learner.feed(layer[start : start + step], lambda _size: None)
    return learner.finish()


@pytest.mark.parametrize("answers", [[True], [True, False], [False, False, True]])
def test_busy_cores_change_nothing(answers: list[bool]) -> None:
    layer = _layer()
    expected, found = _learnt(layer, [False]), _learnt(layer, answers)
    assert found.uncompressed == expected.uncompressed
    assert found.table.checksums == expected.table.checksums
    assert found.table.points == expected.table.points
    assert list(map(found.table.entry, range(60))) == list(map(expected.table.entry, range(60)))

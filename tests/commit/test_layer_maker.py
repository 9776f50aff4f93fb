"""The layers of a commit, made in several threads."""

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from engine.commit.block_buffer import BlockBuffer
from engine.commit.layer_maker import LayerMaker, LayerSource
from engine.compression.options import Compression
from engine.content.writer import Writer
from engine.spec.digest import Digest
from tests import archives
from tests.local_engine import LocalEngine


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[LocalEngine]:
    with LocalEngine(tmp_path / "store") as opened:
        yield opened


class Meeting(str):
    """A digest whose uses as a key happen in two threads at a time."""

    __slots__ = ()
    barrier = threading.Barrier(2)

    def __hash__(self) -> int:
        self.barrier.wait(60)
        return hash(str(self))


def test_equal_layers_leave_no_writer_behind(
    engine: LocalEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    digest, abort = Writer.digest, Writer.abort
    aborted: list[Writer] = []

    def noted(writer: Writer) -> None:
        aborted.append(writer)
        abort(writer)

    def meeting(writer: Writer) -> Digest:
        return Meeting(digest(writer))  # type: ignore[return-value]  # only this test's is one

    monkeypatch.setattr(Writer, "digest", meeting)
    monkeypatch.setattr(Writer, "abort", noted)
    data = archives.layer("a")

    def write(out: BlockBuffer) -> None:
        out.add(data)

    maker = LayerMaker(engine.content, lambda _: None)
    source = LayerSource(write, lambda _: None, "", Compression("uncompressed"))
    with ThreadPoolExecutor(2) as pool:
        made = [*pool.map(maker.make, [source, source])]
    assert made[0].size == made[1].size == len(data)
    ((kept, _),) = maker.writers()
    (other,) = aborted
    assert other is not kept
    maker.discard()
    assert aborted == [other, kept]
    assert not [*engine.path.glob("ingest/*")]

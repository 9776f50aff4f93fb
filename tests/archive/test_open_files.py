"""Loading with few open files."""

import errno
import os
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count as numbers
from itertools import islice
from pathlib import Path

import pytest

from tests import archives
from tests.archives import ImageParts
from tests.local_engine import LocalEngine

COUNT = 120
"""Images, each of which has three small blobs."""


@contextmanager
def spare_files(count: int) -> Iterator[None]:
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    used = set(map(int, os.listdir("/proc/self/fd")))
    limit = next(islice((n for n in numbers() if n not in used), count, None))
    resource.setrlimit(resource.RLIMIT_NOFILE, (limit, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)


def archive() -> bytes:
    layers = [archives.layer(f"{number}") for number in range(COUNT)]
    images = [(ImageParts(layers=[layer]), f"app:{n}") for n, layer in enumerate(layers)]
    return archives.oci_archive(*images)


def test_more_small_blobs_than_open_files(tmp_path: Path) -> None:
    with LocalEngine(tmp_path / "store") as engine:
        with spare_files(150), engine.begin_import() as session:
            session.feed(archive())
            assert session.finish().new_blobs == 3 * COUNT
        assert len(engine.images.all()) == COUNT
        assert list(engine.check()) == []
        assert list(engine.collector().plan()) == []
        assert list((tmp_path / "store/ingest").iterdir()) == []


def test_a_failure_among_small_blobs_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(descriptor: int, *_: object) -> None:
        if len(list(shelf.glob("*"))) > COUNT:
            raise OSError(errno.ENOSPC, "No space left on device")
        sync(descriptor)

    shelf = tmp_path / "store/blobs/sha256"
    sync = os.fsync
    with LocalEngine(tmp_path / "store") as engine:
        with spare_files(150), engine.begin_import() as session:
            session.feed(archive())
            monkeypatch.setattr(os, "fsync", full)
            with pytest.raises(OSError, match="No space left"):
                session.finish()
        monkeypatch.undo()
        assert engine.images.all() == []
        assert list(engine.collector().plan()) == []
        assert list((tmp_path / "store/ingest").iterdir()) == []
        assert list(shelf.iterdir()) == []

"""The graphs of an archive while its blobs arrive."""

from pathlib import Path
from typing import Any

import pytest

from engine.archive import archive_graphs
from engine.archive.archive_graphs import ArchiveGraphs
from engine.archive.content_pool import ContentPool
from engine.archive.members import MemberNames, Members
from engine.limits import Limits
from engine.spec.digest import Digest
from engine.spec.oci import Descriptor
from tests import archives
from tests.local_engine import LocalEngine


def test_graphs_that_lack_the_same_blob_are_not_compared_with_each_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    compared: list[object] = []

    class Key(tuple[Any, ...]):
        __slots__ = ()
        __hash__ = tuple.__hash__

        def __eq__(self, other: object) -> bool:
            compared.append(other)
            return super().__eq__(other)

        def __ne__(self, other: object) -> bool:
            return not self == other

    key_of = archive_graphs.key_of
    monkeypatch.setattr(archive_graphs, "key_of", lambda target: Key(key_of(target)))
    absent = Digest(archives.digest(b"absent"))
    with LocalEngine(tmp_path / "store") as engine:
        pool = ContentPool(engine.store.content, lambda _: None, Limits())
        graphs = ArchiveGraphs(Members(MemberNames(), pool))
        for size in range(100):
            graphs.graph(Descriptor(archives.OCI_MANIFEST, absent, size))
        assert len(graphs.arrived(absent).changed) == 100
        assert graphs.lacks(absent)
        graphs.forget()
        assert not graphs.missing
    assert len(compared) < 1000

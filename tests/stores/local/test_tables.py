"""The tables of layers on disk: written whole, removed with their layers, checked."""

import errno
import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest
from msgspec.structs import replace

from engine.filetree.stored_roots import root_table
from engine.layers import table_codec
from engine.spec import digest as digests
from engine.stores.local.fsck import check_layers
from engine.stores.local.fsck.problem import Kind
from engine.stores.local.tables import LocalTables
from engine.testing.blobs import write_blob
from engine.testing.tables import TableSuite
from tests import archives
from tests.archives import ImageParts
from tests.layers.layers import words
from tests.local_engine import LocalEngine

DIGEST = digests.of_bytes(b"layer")
APP = "docker.io/library/app:1"
LAYER = archives.layer("big", os.urandom(200_000))


@pytest.fixture
def tables(tmp_path: Path) -> LocalTables:
    (tmp_path / "ingest").mkdir()
    return LocalTables(tmp_path)


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[LocalEngine]:
    with LocalEngine(tmp_path / "store") as engine:
        yield engine


def load(engine: LocalEngine, *layers: bytes) -> list[str]:
    """Load an image of layers, and return the digests of its blobs."""
    with engine.begin_import() as session:
        session.feed(archives.oci_archive((ImageParts(layers=list(layers)), APP), gzipped=True))
        session.finish()
    return [layer.digest for layer in engine.details("app:1").manifest.manifest.layers]


class TestLocalTables(TableSuite):
    """The suite on tables on disk; `tables` is the fixture of this module."""


def test_a_table_is_a_file_that_only_its_owner_reads(tables: LocalTables, tmp_path: Path) -> None:
    assert list(tables.files()) == []
    tables.delete(DIGEST)
    assert [path.name for path in tmp_path.iterdir()] == ["ingest"]
    for data in (b"one", b"another"):
        tables.put(DIGEST, data)
    (found,) = tables.files()
    assert (found.digest, found.size) == (DIGEST, 7)
    assert stat.S_IMODE((tmp_path / "layers").stat().st_mode) == 0o700
    tables.delete(DIGEST)
    assert list(tables.files()) == []


@pytest.mark.parametrize("call", ["fsync", "rename"])
def test_an_interrupted_write_leaves_the_old_table(
    tables: LocalTables, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    tables.put(DIGEST, b"old")

    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patched:
        if call == "fsync":
            patched.setattr(os, "fsync", full)
        else:
            patched.setattr(Path, "rename", full)
        with pytest.raises(OSError, match="No space left"):
            tables.put(DIGEST, b"new")
    assert tables.get(DIGEST) == b"old"
    assert len(list(tables.files())) == 1
    assert list((tmp_path / "ingest").iterdir()) == []


def test_a_load_keeps_the_tables_of_all_layers(engine: LocalEngine) -> None:
    found = load(engine, LAYER, archives.layer())
    for digest in found:
        data = engine.store.tables.get(digest)
        assert data is not None
        table = table_codec.load(data)
        assert table is not None
        assert len(table) > 0
        assert table.damage == ""


def test_a_load_into_a_store_that_cannot_keep_tables(
    engine: LocalEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patched:
        patched.setattr(engine.store.tables, "put", full)
        (digest,) = load(engine, LAYER)
        with engine.layers.open(digest) as layer:
            assert layer.read(len(LAYER), 0) == LAYER
    assert engine.store.tables.get(digest) is None


def test_a_table_goes_with_its_layer(engine: LocalEngine) -> None:
    (digest,) = load(engine, LAYER)
    engine.images.delete(APP)
    assert digest in [garbage.name for garbage in engine.store.collect()]
    assert engine.store.tables.get(digest) is None


def test_leftovers_are_collected(engine: LocalEngine) -> None:
    (digest,) = load(engine, LAYER)
    directory = engine.path / "layers/sha256"
    engine.store.tables.put(DIGEST, b"of a load that failed")
    (directory / "stray").write_bytes(b"half")
    expected = {str(directory / "stray"), str(directory / DIGEST.encoded)}
    assert {one.name for one in engine.store.garbage() if one.kind == "table"} == expected
    assert {one.name for one in engine.store.collect()} == expected
    assert [found.digest for found in engine.store.tables.files()] == [digest]


def test_a_damaged_table_is_found_and_removed(engine: LocalEngine) -> None:
    first, second = load(engine, LAYER, archives.layer())
    data = engine.store.tables.get(first)
    assert data is not None
    engine.store.tables.put(first, data[:-1] + b"x")
    engine.store.tables.put(second, b"of another version")
    (problem,) = engine.check()
    assert (problem.kind, problem.subject) == (Kind.TABLE, first)
    assert "is a damaged layer table: expected the checksum" in problem.text
    assert engine.repair(problem) == "removed, and made anew when it is needed"
    assert list(engine.check()) == []
    with engine.layers.open(first) as layer:
        assert layer.read(len(LAYER), 0) == LAYER
    assert engine.store.tables.get(first) == data


def test_a_point_that_is_wrong_is_found_and_removed(engine: LocalEngine) -> None:
    (digest,) = load(engine, archives.layer("big", words(9 << 20)))
    table = engine.layers.table(digest)
    first, second, *others = table.points
    wrong = replace(table, points=(first, replace(second, window=None), *others))
    engine.store.tables.put(digest, table_codec.dump(wrong))
    assert list(engine.check()) == []
    (problem,) = check_layers(engine.store)
    assert (problem.kind, problem.subject) == (Kind.TABLE, digest)
    assert problem.text.startswith("is not that of the layer: ")
    engine.repair(problem)
    assert engine.store.tables.get(digest) is None
    engine.store.tables.put(digest, table_codec.dump(table))
    assert list(check_layers(engine.store)) == []


def test_the_table_of_a_root_goes_with_its_manifest(engine: LocalEngine) -> None:
    load(engine, LAYER)
    details = engine.details(APP)
    digest = details.manifest.descriptor.digest
    root_table(engine.layers, engine.store.tables, digest, details.manifest.manifest)
    assert list(engine.store.garbage()) == []
    data = engine.store.tables.get(digest)
    assert data is not None
    engine.store.tables.put(digest, data[:-1] + bytes([data[-1] ^ 1]))
    (problem,) = engine.check()
    assert (problem.kind, problem.subject) == (Kind.TABLE, digest)
    assert "is a damaged root table: expected the checksum" in problem.text
    engine.repair(problem)
    engine.store.tables.put(digest, data)
    engine.images.delete(APP)
    assert digest in [garbage.name for garbage in engine.store.collect()]
    assert engine.store.tables.get(digest) is None


def test_a_store_without_tables_works(engine: LocalEngine) -> None:
    (digest,) = load(engine, LAYER)
    for path in sorted((engine.path / "layers").rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() else path.unlink()
    (engine.path / "layers").rmdir()
    assert list(engine.check()) == []
    assert engine.store.tables.get(digest) is None
    with engine.layers.open(digest) as layer:
        assert layer.read(len(LAYER), 0) == LAYER
    assert engine.store.tables.get(digest) is not None


def test_tables_go_with_their_blobs(engine: LocalEngine) -> None:
    """Those made during a collection, too."""
    data = sorted(
        write_blob(engine.content, "test", f"{i}".encode()).info.digest for i in range(120)
    )
    tables = engine.store.tables
    tables.put(data[0], b"table")
    collecting = engine.collector().collect()
    next(collecting)
    assert tables.get(data[0]) is None
    tables.put(data[-1], b"table")
    assert {g.name for g in collecting} >= set(data[1:])
    assert not list(tables.files())

"""What a collection takes, what it leaves, and what it says."""

import json
import os
import subprocess
import sys
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.archive.content_pool import ContentPool
from engine.content.writer import Writer
from engine.errors import BrokenArchive
from engine.spec import digest as digests
from engine.spec.digest import Digest
from engine.stores.local.gc import Collector
from engine.stores.records import Garbage
from engine.testing.blobs import write_blob
from tests import archives
from tests.archives import ImageParts
from tests.local_engine import LocalEngine
from tests.stores.local.old_schema import downgrade

PROJECT = Path(__file__).parents[3]
SHARED = archives.layer("shared")
APP = ImageParts(layers=[SHARED, archives.layer("app")])
OTHER = ImageParts(layers=[SHARED, archives.layer("other")])


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[LocalEngine]:
    with LocalEngine(tmp_path / "store") as opened:
        yield opened


def load(engine: LocalEngine, *images: tuple[ImageParts, list[str] | None]) -> None:
    with engine.begin_import() as session:
        session.feed(archives.docker_archive(*images))
        session.finish()


def blob(engine: LocalEngine, data: bytes, **labels: str) -> Digest:
    names = {key.replace("_", "/", 1).replace("_", "."): value for key, value in labels.items()}
    return write_blob(engine.content, "test", data, labels=names).info.digest


def held(engine: LocalEngine, data: bytes, *children: str) -> Digest:
    labels = {f"containerd.io/gc.ref.content.{i}": child for i, child in enumerate(children)}
    return write_blob(engine.content, "test", data, labels=labels).info.digest


def gone(engine: LocalEngine) -> list[str]:
    """What a collection takes, as the plan said before."""
    planned = list(engine.collector().plan())
    collected = list(engine.collector().collect())
    assert collected == planned
    for garbage in collected:
        if garbage.kind == "blob":
            assert not engine.content.exists(garbage.name)
    assert list(engine.collector().plan()) == []
    return [garbage.name for garbage in collected]


def blobs_on_disk(engine: LocalEngine) -> set[str]:
    return {str(digest) for digest in engine.content.files()}


def needed(engine: LocalEngine) -> set[str]:
    return set(engine.blobs_of(engine.images.all()))


def test_nothing_to_do(engine: LocalEngine) -> None:
    load(engine, (APP, ["app:1"]))
    assert gone(engine) == []
    assert engine.events.after()[-1].action != "gc"


def test_an_image_that_was_removed(engine: LocalEngine) -> None:
    load(engine, (APP, ["app:1"]), (OTHER, ["other:1"]))
    manifest = engine.find_one("app:1").target.digest
    engine.remove("app:1")
    taken = gone(engine)
    assert taken[0] == manifest
    assert set(taken[1:]) == {archives.digest(APP.config), archives.digest(APP.layers[1])}
    assert blobs_on_disk(engine) == needed(engine)
    assert engine.details("other:1").manifest.missing == ()
    engine.remove("other:1")
    assert len(gone(engine)) == 4
    assert blobs_on_disk(engine) == set()
    assert os.listdir(engine.path / "ingest") == []


def test_an_image_without_a_name_stays(engine: LocalEngine) -> None:
    load(engine, (APP, None))
    load(engine, (OTHER, ["app:1"]))
    load(engine, (APP, ["app:1"]))
    assert gone(engine) == []
    assert engine.images.count() == 2


def test_the_event(engine: LocalEngine) -> None:
    size = len(b"abc")
    blob(engine, b"abc")
    list(engine.collector().collect())
    event = engine.events.after()[-1]
    assert (event.action, event.reclaimed) == ("gc", size)
    assert json.loads(event.render())["Actor"] == {"ID": "", "Attributes": {"reclaimed": "3"}}


def test_a_lease_protects_all_that_is_below(engine: LocalEngine) -> None:
    layer = blob(engine, b"layer")
    manifest = held(engine, b"manifest", layer)
    index = held(engine, b"index", manifest)
    with engine.leases.hold() as lease:
        engine.leases.add(lease.id, manifest)
        assert gone(engine) == [index]
    assert gone(engine) == [manifest, layer]


def test_a_root_label(engine: LocalEngine) -> None:
    child = blob(engine, b"child")
    root = held(engine, b"root", child)
    engine.content.update(root, {"containerd.io/gc.root": "2026-11-23T00:00:00Z"})
    assert gone(engine) == []
    engine.content.update(root, {"containerd.io/gc.root": ""})
    assert gone(engine) == [root, child]


@pytest.mark.parametrize(
    ("key", "holds"),
    [
        ("containerd.io/gc.ref.content", True),
        ("containerd.io/gc.ref.content.0", True),
        ("containerd.io/gc.ref.content.config", True),
        ("containerd.io/gc.ref.content/l.0", True),
        ("containerd.io/gc.ref.contents", False),
        ("containerd.io/gc.ref.snapshot.overlayfs", False),
        ("containerd.io/uncompressed", False),
    ],
)
def test_what_a_label_holds(engine: LocalEngine, key: str, holds: bool) -> None:
    child = blob(engine, b"child")
    root = blob(engine, b"root", **{"containerd.io_gc.root": "yes"})
    engine.content.update(root, {"containerd.io/gc.root": "yes", key: child})
    assert gone(engine) == ([] if holds else [child])
    engine.content.update(root, {key: ""})
    assert gone(engine) == ([child] if holds else [])


def test_an_ingest_that_expects_a_blob(engine: LocalEngine) -> None:
    data = blob(engine, b"data")
    with engine.content.writer("again", expected=data):
        assert gone(engine) == []
    assert gone(engine) == []
    engine.content.abort("again")
    assert gone(engine) == [data]


def test_what_was_left_on_the_disk(engine: LocalEngine) -> None:
    data = b"a file without a row"
    stray = digests.of_bytes(data)
    shelf = engine.path / "blobs" / "sha256"
    shelf.mkdir(exist_ok=True)
    (shelf / stray.encoded).write_bytes(data)
    with engine.content.unnamed_writer() as writer:
        writer.write(b"half")
    with engine.content.writer("resumable") as writer:
        writer.write(b"half")
    collected = list(engine.collector().collect())
    assert [(g.kind, g.size) for g in collected] == [("file", len(data)), ("ingest", 4)]
    assert [status.ref for status in engine.content.statuses()] == ["resumable"]
    assert not (shelf / stray.encoded).exists()


def test_an_open_blob_stays_readable(engine: LocalEngine) -> None:
    data = blob(engine, b"still here")
    with engine.content.open(data) as reader:
        assert gone(engine) == [data]
        assert reader.pread(100, 0) == b"still here"


def test_what_is_needed_again_since_the_plan(engine: LocalEngine) -> None:
    """The moment between plan and removal, in which others go on."""
    layer = blob(engine, b"layer")
    manifest = held(engine, b"manifest", layer)
    other = blob(engine, b"other")
    collecting = engine.collector().collect()

    class Slow(Collector):
        def _sweep(self, batch: list[Garbage]) -> dict[Garbage, str]:
            with engine.leases.hold() as lease:
                engine.leases.add(lease.id, manifest)
                return super()._sweep(batch)

    assert {g.name for g in Slow(engine.store).collect()} == {other}
    assert {g.name for g in collecting} == {manifest, layer}


def test_a_blob_that_goes_before_a_load_has_it(
    engine: LocalEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An archive may rely on the store without a lease until its last moment."""
    load(engine, (APP, ["app:1"]))
    layer = archives.digest(APP.layers[0])
    entry = archives.descriptor(APP.manifest(False), archives.OCI_MANIFEST)
    lacking = [b for b in APP.blobs(False) if archives.digest(b) != layer]
    prepare = ContentPool.prepare

    def prepare_late(self: ContentPool, wanted: Iterable[str]) -> Mapping[str, Writer]:
        prepared = prepare(self, wanted)
        engine.remove("app:1")
        list(engine.collector().collect())
        return prepared

    with engine.begin_import() as session, monkeypatch.context() as patch:
        session.feed(archives.tar(archives.oci_members([entry], lacking)))
        patch.setattr(ContentPool, "prepare", prepare_late)
        with pytest.raises(BrokenArchive, match="missing from the archive and from the store"):
            session.finish()
    assert engine.images.all() == []
    list(engine.collector().collect())
    assert blobs_on_disk(engine) == set()


def test_many(engine: LocalEngine) -> None:
    children = [blob(engine, f"{i}".encode()) for i in range(120)]
    root = held(engine, b"root", *children)
    taken = gone(engine)
    assert taken[0] == root
    assert set(taken) == {root, *children}


def test_a_layer_of_many_images(engine: LocalEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    """The holders of a layer are not read again for each of them."""
    layer = blob(engine, b"layer")
    manifests = {held(engine, f"{i}".encode(), layer) for i in range(200)}
    database = engine.store.database
    read, found = database.read, 0

    def counted(*query: Any) -> list[Any]:
        nonlocal found
        rows = read(*query)
        found += len(rows)
        return rows

    with monkeypatch.context() as patched:
        patched.setattr(database, "read", counted)
        planned = list(engine.collector().plan())
    assert planned[-1].name == layer
    assert found < 10 * len(manifests)
    assert set(gone(engine)) == {layer, *manifests}


def test_references_within_a_batch(engine: LocalEngine) -> None:
    """A chain of manifests goes in one batch, and a blob that is needed again keeps its part."""
    layer = blob(engine, b"layer")
    manifest = held(engine, b"manifest", layer)
    index = held(engine, b"index", manifest)
    other = held(engine, b"other", layer)
    collecting = engine.collector().collect()
    with engine.leases.hold() as lease:
        engine.leases.add(lease.id, other)
        assert [g.name for g in collecting] == [index, manifest]
    assert set(gone(engine)) == {other, layer}


def test_two_at_once(engine: LocalEngine) -> None:
    data = [blob(engine, f"{i}".encode()) for i in range(120)]
    first, second = engine.collector().collect(), engine.collector().collect()
    taken = [next(first).name, next(second).name]
    taken += [g.name for g in first] + [g.name for g in second]
    assert sorted(taken) == sorted(data)


def test_what_a_dead_process_held(engine: LocalEngine) -> None:
    """A load that is killed holds nothing: neither by its lease nor in its ingests."""
    load(engine, (APP, ["app:1"]))
    engine.remove("app:1")
    archive = archives.docker_archive((APP, ["app:1"]), (OTHER, ["other:1"]))
    script = """
import os, sys
from pathlib import Path
from tests.local_engine import LocalEngine
with LocalEngine(Path(sys.argv[1])).begin_import() as session:
    session.feed(sys.stdin.buffer.read())
    os.kill(os.getpid(), 9)
"""
    command = [sys.executable, "-c", script, str(engine.path)]
    done = subprocess.run(command, cwd=PROJECT, input=archive, check=False)
    assert done.returncode == -9
    list(engine.collector().collect())
    assert blobs_on_disk(engine) == set()
    assert os.listdir(engine.path / "ingest") == os.listdir(engine.path / "leases") == []


# A model: a graph of blobs with labels, leases and roots.

NODES = 8


@settings(max_examples=60, deadline=None)
@given(
    edges=st.sets(st.tuples(st.integers(0, NODES - 1), st.integers(0, NODES - 1))),
    leased=st.sets(st.integers(0, NODES - 1)),
    roots=st.sets(st.integers(0, NODES - 1)),
)
def test_it_takes_just_what_cannot_be_reached(
    tmp_path_factory: pytest.TempPathFactory,
    edges: set[tuple[int, int]],
    leased: set[int],
    roots: set[int],
) -> None:
    below: dict[int, set[int]] = {
        n: {b for a, b in edges if a == n and b > n} for n in range(NODES)
    }
    kept, todo = set(), [*leased, *roots]
    while todo:
        node = todo.pop()
        if node not in kept:
            kept.add(node)
            todo += below[node]
    with LocalEngine(tmp_path_factory.mktemp("model") / "store") as engine:
        names: dict[int, Digest] = {}
        for node in reversed(range(NODES)):
            names[node] = held(engine, f"{node}".encode(), *(names[b] for b in below[node]))
            if node in roots:
                engine.content.update(names[node], {"containerd.io/gc.root": "yes"})
        with engine.leases.hold() as lease:
            for node in leased:
                engine.leases.add(lease.id, names[node])
            assert set(gone(engine)) == {names[n] for n in set(range(NODES)) - kept}
            assert blobs_on_disk(engine) == {names[n] for n in kept}


def test_references_of_an_older_store(tmp_path: Path) -> None:
    """What labels said before there was a table of it."""
    with LocalEngine(tmp_path / "store") as engine:
        child = blob(engine, b"child")
        root = held(engine, b"root", child)
        engine.content.update(root, {"containerd.io/gc.root": "yes"})
    downgrade(tmp_path / "store", 2)
    with LocalEngine(tmp_path / "store") as engine:
        assert gone(engine) == []
        engine.content.update(root, {"containerd.io/gc.root": ""})
        assert gone(engine) == [root, child]

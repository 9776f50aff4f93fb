"""A store whose database is made anew: nothing of it is collected, and nothing is forgotten."""

import fcntl
import sqlite3
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing, suppress
from itertools import islice
from pathlib import Path
from threading import Event

import pytest

from engine.errors import StoreError
from engine.spec import digest as digests
from engine.stores.local import gc, rebuild
from engine.stores.local.files import sync_directory
from engine.stores.local.fsck.problem import Kind
from engine.stores.local.fsck.replacement import replace_database
from tests import archives
from tests.archives import ImageParts
from tests.local_engine import LocalEngine

APP, OTHER = ImageParts(), ImageParts(layers=[archives.layer("other")])
ARM, AMD = ImageParts(architecture="arm64"), ImageParts(architecture="amd64")
ARCHIVE = archives.docker_archive((APP, ["app:1"]), (OTHER, ["other:1"]))
REBUILT = "is being rebuilt"


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[LocalEngine]:
    with LocalEngine(tmp_path / "store") as opened:
        load(opened, ARCHIVE)
        yield opened


def load(engine: LocalEngine, archive: bytes) -> None:
    with engine.begin_import() as session:
        session.feed(archive)
        session.finish()


def repair(engine: LocalEngine) -> None:
    for problem in engine.check():
        engine.repair(problem)


def blobs(engine: LocalEngine) -> set[str]:
    return {*engine.content.files()}


def named(engine: LocalEngine) -> dict[str, str]:
    return {image.name: image.target.digest for image in engine.images.all()}


def refuses_to_collect(engine: LocalEngine) -> None:
    for collecting in (engine.collector().collect(), engine.collector().plan()):
        with pytest.raises(StoreError, match=REBUILT):
            list(collecting)


def test_nothing_is_collected_before_the_names_are_there(engine: LocalEngine) -> None:
    before, names = blobs(engine), named(engine)
    replace_database(engine.path)
    with LocalEngine(engine.path) as other:
        refuses_to_collect(other)
        for problem in other.check():
            other.repair(problem)
            refuses_to_collect(other)
        assert len(other.restore_names()) == len(names)
        assert named(other) == names
        assert list(other.collector().collect()) == []
        assert blobs(other) == before


def rebuilt(engine: LocalEngine) -> None:
    """Repair a database to the end, and see that a collection takes nothing."""
    before = blobs(engine)
    repair(engine)
    engine.restore_names()
    assert list(engine.check()) == []
    assert list(engine.collector().collect()) == []
    assert blobs(engine) == before


@pytest.mark.parametrize("done", range(16))
def test_a_repair_that_is_interrupted(engine: LocalEngine, done: int) -> None:
    """Its second run finds the images below an index no more and no less than one run does."""
    load(engine, archives.multi_platform("docker.io/library/multi:1", [ARM, AMD]))
    names = named(engine)
    replace_database(engine.path)
    with LocalEngine(engine.path) as other:
        for problem in islice(other.check(), done):
            other.repair(problem)
    with LocalEngine(engine.path) as other:
        rebuilt(other)
        assert named(other) == names


@pytest.mark.parametrize("steps", range(7))
def test_a_replacement_that_is_interrupted(
    engine: LocalEngine, monkeypatch: pytest.MonkeyPatch, steps: int
) -> None:
    """The names are in the log of the database, which is moved away after it."""
    names, rename, remaining = named(engine), Path.rename, iter(range(steps))

    def interrupted(path: Path, target: Path) -> Path:
        if next(remaining, None) is None:
            raise KeyboardInterrupt
        return rename(path, target)

    with monkeypatch.context() as patch, suppress(KeyboardInterrupt):
        patch.setattr(Path, "rename", interrupted)
        replace_database(engine.path)
    replace_database(engine.path)
    with LocalEngine(engine.path) as other:
        rebuilt(other)
        assert named(other) == names


def test_a_database_that_is_lost_again_meanwhile(engine: LocalEngine) -> None:
    names = named(engine)
    replace_database(engine.path)
    (engine.path / "imgfs.db").unlink()
    replace_database(engine.path)
    with LocalEngine(engine.path) as other:
        rebuilt(other)
        assert named(other) == names


def spoil(engine: LocalEngine, statement: str) -> None:
    engine.database.connection.execute(statement)


APP_1 = "WHERE name = 'docker.io/library/app:1'"


def test_a_name_that_cannot_be_decoded_is_the_only_one_that_is_lost(engine: LocalEngine) -> None:
    names = named(engine)
    spoil(engine, f"UPDATE images SET name = cast(x'00ff41' AS TEXT) {APP_1}")
    replace_database(engine.path)
    with LocalEngine(engine.path) as other:
        rebuilt(other)
        assert "docker.io/library/other:1" in named(other)
        assert {*named(other).values()} == {*names.values()}


def test_a_digest_is_taken_from_the_target_if_its_column_is_wrong(engine: LocalEngine) -> None:
    names = named(engine)
    spoil(engine, f"UPDATE images SET digest = 'sha256:nobody' {APP_1}")
    replace_database(engine.path)
    with LocalEngine(engine.path) as other:
        rebuilt(other)
        assert named(other) == names


def test_names_are_read_past_damage_to_the_schema(engine: LocalEngine) -> None:
    names = named(engine)
    spoil(engine, "PRAGMA writable_schema = ON")
    spoil(engine, "UPDATE sqlite_master SET sql = 'nonsense' WHERE name = 'blobs'")
    replace_database(engine.path)
    with LocalEngine(engine.path) as other:
        rebuilt(other)
        assert named(other) == names


def test_who_waits_for_an_event_finds_it_in_the_new_database(engine: LocalEngine) -> None:
    last, version = engine.events.last(), engine.store.version()
    replace_database(engine.path)
    assert engine.store.version() != version
    load(engine, ARCHIVE)
    assert [event.action for event in engine.events.after(last)]


def test_nobody_changes_the_old_database_while_it_is_replaced(
    engine: LocalEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    begin, refused = rebuild.begin, []

    def late(root: Path, names: Mapping[str, str]) -> None:
        begin(root, names)
        with closing(sqlite3.connect(root / "imgfs.db", timeout=0)) as writer:
            try:
                writer.execute("BEGIN IMMEDIATE")
            except sqlite3.OperationalError as error:
                refused.append(str(error))

    monkeypatch.setattr(rebuild, "begin", late)
    replace_database(engine.path)
    assert refused == ["database is locked"]


def test_a_name_of_a_part_of_an_index(engine: LocalEngine) -> None:
    load(engine, archives.multi_platform("docker.io/library/multi:1", [ARM, AMD]))
    load(engine, archives.oci_archive((ARM, "docker.io/library/arm:1")))
    names = named(engine)
    replace_database(engine.path)
    with LocalEngine(engine.path) as other:
        rebuilt(other)
        assert named(other) == names


def test_an_artifact_and_its_signature(engine: LocalEngine) -> None:
    config, chart = b"{}", b"chart"
    parts = {
        "schemaVersion": 2,
        "mediaType": archives.OCI_MANIFEST,
        "config": archives.descriptor(config, "application/vnd.cncf.helm.config.v1+json"),
        "layers": [archives.descriptor(chart, "application/vnd.cncf.helm.chart.content.v1.tar")],
    }
    artifact = archives.to_json(parts)
    subject = archives.descriptor(artifact, archives.OCI_MANIFEST)
    signature = archives.to_json({**parts, "artifactType": "example/x", "subject": subject})
    entries = [
        subject | {"annotations": {"io.containerd.image.name": "docker.io/library/chart:1"}},
        archives.descriptor(signature, archives.OCI_MANIFEST),
    ]
    members = archives.oci_members(entries, [config, chart, artifact, signature])
    load(engine, archives.tar(members))
    names = named(engine)
    assert len(names) == 4
    replace_database(engine.path)
    with LocalEngine(engine.path) as other:
        rebuilt(other)
        assert named(other) == names


def test_a_named_image_that_lacks_a_layer(engine: LocalEngine) -> None:
    """It stays listed, with what it has, as in a database that is not lost."""
    names, layer = named(engine), archives.digest(OTHER.layers[0])
    engine.content.path(digests.parse(layer)).unlink()
    replace_database(engine.path)
    with LocalEngine(engine.path) as other:
        repair(other)
        other.restore_names()
        assert named(other) == names
        assert {problem.kind for problem in other.check()} == {Kind.IMAGE}
        assert [garbage.kind for garbage in other.collector().collect()] == ["table"]
        load(other, ARCHIVE)
        assert list(other.check()) == []


def test_a_part_of_an_index_that_comes_back(engine: LocalEngine) -> None:
    """It was lost, and its file is there again, which makes it no image of its own."""
    load(engine, archives.multi_platform("docker.io/library/multi:1", [ARM, AMD]))
    names = named(engine)
    part = engine.content.path(digests.of_bytes(ARM.manifest()))
    away = part.rename(engine.path / "away")
    repair(engine)
    away.rename(part)
    repair(engine)
    assert named(engine) == names
    assert list(engine.check()) == []


def test_a_collection_that_has_begun_before_it_stops(
    engine: LocalEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gc, "_BATCH", 1)
    monkeypatch.setattr(gc, "_MOST", 1)
    engine.remove("other:1")
    collecting = engine.collector().collect()
    assert next(collecting)
    load(engine, ARCHIVE)
    before = blobs(engine)
    replace_database(engine.path)
    with pytest.raises(StoreError, match=REBUILT):
        list(collecting)
    assert blobs(engine) == before


def test_a_batch_that_has_begun_before_it_takes_no_file(
    engine: LocalEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its rows were deleted in the old database; in the new one no file has a row."""
    engine.remove("other:1")
    before = blobs(engine)
    discard = engine.content.discard

    def late(digests: set[str]) -> dict[str, str]:
        replace_database(engine.path)
        return discard(digests)

    monkeypatch.setattr(engine.content, "discard", late)
    with pytest.raises(StoreError, match=REBUILT):
        list(engine.collector().collect())
    assert blobs(engine) == before


def test_a_load_that_fails_meanwhile_leaves_the_files(engine: LocalEngine) -> None:
    """It would remove what it has not brought, since a lost row looks like one rolled back."""
    replace_database(engine.path)
    before = blobs(engine)
    with suppress(ZeroDivisionError), engine.store.transaction():
        load(engine, ARCHIVE)
        raise ZeroDivisionError
    assert blobs(engine) == before


def test_a_name_that_was_given_meanwhile_stays(engine: LocalEngine) -> None:
    newer = archives.docker_archive((OTHER, ["app:1"]))
    replace_database(engine.path)
    load(engine, newer)
    repair(engine)
    engine.restore_names()
    assert engine.find_one("app:1").target == engine.find_one("other:1").target


def test_a_blob_that_is_deleted_goes_with_its_file(engine: LocalEngine) -> None:
    """A registry's cache keeps its size by that, whatever became of a repair."""
    rebuild.begin(engine.path, {})
    digest = next(iter(blobs(engine)))
    engine.content.delete(digest)
    assert digest not in blobs(engine)


def opened_anew(engine: LocalEngine) -> int:
    with LocalEngine(engine.path) as other:
        return len(other.store.database.read("SELECT 1"))


def changed(engine: LocalEngine) -> int:
    with engine.store.transaction():
        return 1


def read_by_a_new_thread(engine: LocalEngine) -> int:
    return len(engine.store.database.read("SELECT 1"))


@pytest.mark.parametrize("use", [opened_anew, changed, read_by_a_new_thread])
def test_who_comes_while_a_database_is_replaced_waits(
    engine: LocalEngine, monkeypatch: pytest.MonkeyPatch, use: Callable[[LocalEngine], int]
) -> None:
    """At the moment at which the old one is away, and the new one is not there yet."""
    waits = Event()
    flock = fcntl.flock
    begun: list[Future[int]] = []

    def noted_flock(descriptor: int, operation: int) -> None:
        try:
            flock(descriptor, operation)
        except BlockingIOError:
            waits.set()
            raise

    def interrupted_sync(root: Path) -> None:
        if not begun:
            assert not (root / "imgfs.db").exists()
            begun.append(pool.submit(use, engine))
            begun[0].add_done_callback(lambda _: waits.set())
            assert waits.wait(30)
        sync_directory(root)

    monkeypatch.setattr(fcntl, "flock", noted_flock)
    monkeypatch.setattr("engine.stores.local.fsck.replacement.sync_directory", interrupted_sync)
    with ThreadPoolExecutor(1) as pool:
        replace_database(engine.path)
        assert begun[0].result() == 1

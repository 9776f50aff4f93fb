"""What a check says of a damaged store, and what a repair makes of it."""

import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from sqlite3 import Connection
from typing import Any

import pytest

from engine.content.blobs import read_blob
from engine.errors import NotFound
from engine.graph import Blobs, Graph, graph
from engine.progress import Done
from engine.spec import digest as digests
from engine.spec.digest import Digest
from engine.spec.oci import Descriptor
from engine.stores.local import rebuild
from engine.stores.local.fsck import images as fsck_images
from engine.stores.local.fsck.problem import Kind, Problem
from engine.stores.local.fsck.repair import NO_LONGER_SO
from engine.stores.local.fsck.replacement import replace_database
from engine.testing.blobs import write_blob
from tests import archives
from tests.archives import ImageParts
from tests.local_engine import LocalEngine

SHARED = archives.layer("shared")
APP = ImageParts(layers=[SHARED, archives.layer("app")])
OTHER = ImageParts(layers=[SHARED, archives.layer("other")])
LAYER = archives.digest(APP.layers[1])
CONFIG = archives.digest(APP.config)
ARCHIVE = archives.docker_archive((APP, ["app:1"]), (OTHER, ["other:1"]))


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[LocalEngine]:
    with LocalEngine(tmp_path / "store") as opened:
        load(opened)
        yield opened


def load(engine: LocalEngine) -> None:
    with engine.begin_import() as session:
        session.feed(ARCHIVE)
        session.finish()


def file(engine: LocalEngine, digest: str) -> Path:
    return engine.content.path(digests.parse(digest))


def damage(engine: LocalEngine, digest: str, data: bytes) -> None:
    path = file(engine, digest)
    path.chmod(0o600)
    path.write_bytes(data)
    path.chmod(0o444)


def found(engine: LocalEngine) -> list[tuple[Kind, tuple[str, ...]]]:
    return [(problem.kind, problem.images) for problem in engine.check()]


def repaired(engine: LocalEngine) -> list[Problem]:
    """What `repair` could do nothing about."""
    return [problem for problem in engine.check() if not engine.repair(problem)]


def saved(engine: LocalEngine) -> dict[str, str]:
    return {image.name: image.target.digest for image in engine.images.all()}


def test_nothing_is_wrong(engine: LocalEngine) -> None:
    assert list(engine.check()) == list(engine.check_layers()) == []


def test_an_image_that_is_there_in_part(tmp_path: Path) -> None:
    """What an index lacks on purpose is no problem, however much it is."""
    absent = [ImageParts(layers=[archives.layer(f"{i}")]) for i in range(6)]
    with LocalEngine(tmp_path / "sparse") as engine:
        with engine.begin_import() as session:
            name = "docker.io/library/sparse:1"
            session.feed(archives.multi_platform(name, [APP], absent))
            session.finish()
        target = engine.find_one("sparse:1").target.digest
        assert len(engine.images.summary(target).missing) == 6
        assert list(engine.check()) == []
        assert list(engine.collector().plan()) == []


def test_progress_tells_every_byte(engine: LocalEngine) -> None:
    told: list[Done] = []
    list(engine.check(told.append))
    size = sum(info.size for info in engine.content.walk())
    assert told[-1] == Done(size, size)
    assert [done.size for done in told] == sorted(done.size for done in told)


@pytest.mark.parametrize("digest", [LAYER, CONFIG])
@pytest.mark.parametrize("data", [b"", b"other", APP.layers[1][:-1] + b"x", APP.config[:-1] + b" "])
def test_damaged_bytes(engine: LocalEngine, digest: str, data: bytes) -> None:
    damage(engine, digest, data)
    assert (Kind.DAMAGED, ("app:1",)) in found(engine)
    problems = repaired(engine)
    assert {problem.kind for problem in problems} == {Kind.IMAGE}
    assert not file(engine, digest).exists()
    (kept,) = (engine.path / "quarantine").iterdir()
    assert kept.read_bytes() == data
    assert kept.name.startswith(digest.replace(":", "-"))
    assert found(engine) == [(Kind.IMAGE, ("app:1",))]
    assert engine.images.summary(engine.images.get("docker.io/library/app:1").target.digest).missing
    load(engine)
    assert list(engine.check()) == list(engine.check_layers()) == []


def test_a_blob_of_two_images(engine: LocalEngine) -> None:
    damage(engine, archives.digest(SHARED), b"")
    assert (Kind.DAMAGED, ("app:1", "other:1")) in found(engine)


def test_a_lost_file(engine: LocalEngine) -> None:
    names = saved(engine)
    file(engine, LAYER).unlink()
    assert found(engine) == [(Kind.LOST, ("app:1",))]
    assert {problem.kind for problem in repaired(engine)} == {Kind.IMAGE}
    assert saved(engine) == names
    load(engine)
    assert list(engine.check()) == []


def test_a_lost_manifest(engine: LocalEngine) -> None:
    target = engine.find_one("app:1").target.digest
    file(engine, target).unlink()
    repaired(engine)
    assert found(engine) == [(Kind.IMAGE, ("app:1",))]
    assert engine.find_one("other:1")
    load(engine)
    assert list(engine.check()) == []


@pytest.mark.parametrize(
    "make", [Path.mkdir, os.mkfifo, lambda path: path.symlink_to("/etc/passwd")]
)
def test_something_else_in_a_file_s_place(
    engine: LocalEngine, make: Callable[[Path], None]
) -> None:
    path = file(engine, LAYER)
    path.unlink()
    make(path)
    assert (Kind.DAMAGED, ("app:1",)) in found(engine)
    repaired(engine)
    assert not os.path.lexists(path)
    load(engine)
    assert list(engine.check()) == []


@pytest.mark.parametrize("mode", [0o644, 0o400, 0o4444])
def test_modes(engine: LocalEngine, mode: int) -> None:
    file(engine, LAYER).chmod(mode)
    assert found(engine) == [(Kind.MODE, ("app:1",))]
    assert repaired(engine) == []
    assert list(engine.check()) == []


def test_a_blob_without_a_row(engine: LocalEngine) -> None:
    engine.database.connection.execute("DELETE FROM blobs WHERE digest = ?", (LAYER,))
    kinds = [kind for kind, _ in found(engine)]
    assert kinds == [Kind.UNKNOWN, Kind.RECORD, Kind.IMAGE]
    assert repaired(engine) == []
    assert list(engine.check()) == []
    assert engine.details("app:1").manifest.missing == ()


def test_a_manifest_without_a_row(engine: LocalEngine) -> None:
    """Its labels come back with it, so that a collection takes nothing."""
    target = engine.find_one("app:1").target.digest
    engine.database.connection.execute("DELETE FROM blobs WHERE digest = ?", (target,))
    assert repaired(engine) == []
    assert list(engine.check()) == []
    assert list(engine.collector().plan()) == []


def test_a_store_that_has_lost_its_database(engine: LocalEngine, tmp_path: Path) -> None:
    """Images come back by their digests, and are loaded again without a byte being written."""
    wanted = {image.target.digest for image in engine.images.all()}
    shutil.copytree(engine.path / "blobs", tmp_path / "saved" / "blobs")
    (tmp_path / "saved").chmod(0o700)
    replace_database(tmp_path / "saved")
    assert rebuild.saved_names(tmp_path / "saved") == {}
    with LocalEngine(tmp_path / "saved") as other:
        assert {kind for kind, _ in found(other)} == {Kind.UNKNOWN}
        assert repaired(other) == []
        assert other.restore_names() == []
        assert saved(other) == {digest: digest for digest in wanted}
        assert list(other.check()) == list(other.check_layers()) == []
        assert list(other.collector().plan()) == []
        with other.begin_import() as session:
            session.feed(ARCHIVE)
            assert session.finish().new_blobs == 0
        assert saved(other) == saved(engine)


def test_an_index_that_has_lost_its_row(engine: LocalEngine) -> None:
    """The manifests below it are no images of their own."""
    archive = archives.multi_platform("docker.io/library/multi:1", [APP, OTHER])
    with LocalEngine(engine.path.with_name("other")) as other:
        with other.begin_import() as session:
            session.feed(archive)
            session.finish()
        target = other.find_one("multi:1").target.digest
        for table in ("blobs", "images", "targets", "members", "manifests"):
            other.database.connection.execute(f"DELETE FROM {table}")
        assert repaired(other) == []
        assert saved(other) == {target: target}
        assert list(other.check()) == []


def test_rubbish(engine: LocalEngine) -> None:
    shelf = file(engine, LAYER).parent
    (shelf / digests.of_bytes(b"whole").encoded).write_bytes(b"whole")
    (shelf / digests.of_bytes(b"torn").encoded).write_bytes(b"to")
    (shelf / "tmp123").write_bytes(b"")
    (shelf.parent / "md5").mkdir()
    strays = {str(shelf / "tmp123"), str(shelf.parent / "md5")}
    problems = list(engine.check())
    assert sorted(problem.kind for problem in problems) == sorted(
        [Kind.UNKNOWN, Kind.BROKEN, Kind.STRAY, Kind.STRAY]
    )
    assert all(problem.kind.is_rubbish for problem in problems)
    assert {problem.subject for problem in repaired(engine)} == strays
    assert {problem.subject for problem in engine.check()} == strays
    assert (shelf / "tmp123").exists()


def test_a_check_waits_for_no_writer(engine: LocalEngine) -> None:
    """Nor does a writer wait for a check of what is sound, however many images there are."""
    with LocalEngine(engine.path) as other, other.database.transaction():
        assert list(engine.check()) == []


def test_a_reader_of_the_problems_holds_no_lock(engine: LocalEngine) -> None:
    """A pager that waits in the middle of them keeps nobody from writing."""
    shelf = file(engine, LAYER).parent
    (shelf / digests.of_bytes(b"torn").encoded).write_bytes(b"to")
    (shelf / digests.of_bytes(b"link").encoded).symlink_to(os.devnull)
    (shelf / "tmp123").write_bytes(b"")
    file(engine, archives.digest(OTHER.layers[1])).unlink()
    file(engine, LAYER).chmod(0o644)
    engine.database.connection.execute("DELETE FROM links")
    for _ in engine.check():
        assert not engine.database.in_transaction


def test_a_symlink_without_a_row(engine: LocalEngine, tmp_path: Path) -> None:
    """What it leads to is no file of the store, and keeps its mode."""
    outside = tmp_path / "outside"
    outside.write_bytes(b"outside")
    outside.chmod(0o600)
    link = file(engine, digests.of_bytes(b"outside"))
    link.symlink_to(outside)
    (problem,) = engine.check()
    assert problem.kind is Kind.BROKEN
    assert engine.repair(problem)
    assert outside.stat().st_mode & 0o777 == 0o600
    assert not os.path.lexists(link)


def test_labels(engine: LocalEngine) -> None:
    target = engine.find_one("app:1").target.digest
    engine.content.update(target, {"containerd.io/gc.ref.content.1": "", "other": "stays"})
    assert found(engine) == [(Kind.LABEL, ("app:1",))]
    assert repaired(engine) == []
    assert list(engine.check()) == []
    assert engine.content.info(target).labels["other"] == "stays"


@pytest.mark.parametrize(
    "statement",
    [
        "DELETE FROM members WHERE digest = :layer",
        "DELETE FROM targets",
        "DELETE FROM manifests",
        "UPDATE manifests SET config = 'x'",
        "UPDATE targets SET created = created + 1",
        "UPDATE targets SET revision = 7",
        "INSERT INTO missing SELECT :layer, digest FROM targets",
        "INSERT INTO members VALUES ('sha256:nobody', :layer)",
        "INSERT INTO missing VALUES (:layer, 'sha256:nobody')",
        "UPDATE images SET digest = 'sha256:nobody' WHERE name LIKE '%app%'",
        "UPDATE images SET path = 'elsewhere' WHERE name LIKE '%app%'",
        "DELETE FROM refs",
        "INSERT INTO refs VALUES (:layer, 'sha256:nobody')",
        "DELETE FROM links",
        "UPDATE links SET count = count + 1 WHERE digest = :layer",
        "INSERT INTO links VALUES ('sha256:nobody', 1)",
        "UPDATE images SET revision = 7",
    ],
)
def test_records(engine: LocalEngine, statement: str) -> None:
    engine.database.connection.execute(statement, {"layer": LAYER})
    assert {kind for kind, _ in found(engine)} == {Kind.RECORD}
    assert repaired(engine) == []
    assert list(engine.check()) == []
    assert engine.find_one("app:1")
    assert list(engine.collector().plan()) == []


def test_a_diff_id(engine: LocalEngine) -> None:
    """A config that says something else of a layer than its bytes: only decompression shows it."""
    gzipped = archives.oci_archive((OTHER, "docker.io/library/gz:1"), gzipped=True)
    with engine.begin_import() as session:
        session.feed(gzipped)
        session.finish()
    layer = engine.details("gz:1").manifest.manifest.layers[1].digest
    wrong = digests.of_bytes(b"wrong")
    engine.content.update(layer, {"containerd.io/uncompressed": wrong})
    assert list(engine.check()) == []
    (problem,) = engine.check_layers()
    assert (problem.kind, problem.subject) == (Kind.LABEL, layer)
    assert engine.repair(problem)
    assert list(engine.check_layers()) == []


def test_a_config_that_lies(tmp_path: Path) -> None:
    with LocalEngine(tmp_path / "other") as engine:
        load(engine)
        config = OTHER.config.replace(
            archives.digest(OTHER.layers[1]).encode(), digests.of_bytes(b"x").encode()
        )
        assert config != OTHER.config
        graph = engine.details("other:1").manifest
        manifest = graph.manifest
        raw = read_blob(engine.content, graph.descriptor.digest)
        raw = raw.replace(manifest.config.digest.encode(), digests.of_bytes(config).encode())
        for data in (config, raw):
            write_blob(engine.content, "lie", data)
        target = graph.descriptor
        engine.database.connection.execute(
            "UPDATE images SET digest = ?, target = replace(target, ?, ?)"
            " WHERE name LIKE '%other%'",
            (digests.of_bytes(raw), target.digest, digests.of_bytes(raw)),
        )
        repaired(engine)
        problems = list(engine.check_layers())
        assert [(p.kind, p.subject) for p in problems] == [
            (Kind.LAYER, archives.digest(OTHER.layers[1]))
        ]
        assert engine.repair(problems[0]) == ""


def test_what_is_collected_meanwhile_is_no_problem(engine: LocalEngine) -> None:
    engine.remove("app:1")
    checking = engine.check()
    list(engine.collector().collect())
    assert list(checking) == []


def lose(engine: LocalEngine) -> None:
    file(engine, LAYER).unlink()


def truncate(engine: LocalEngine) -> None:
    damage(engine, LAYER, APP.layers[1][:100])


def truncate_without_row(engine: LocalEngine) -> None:
    truncate(engine)
    engine.database.connection.execute("DELETE FROM blobs WHERE digest = ?", (LAYER,))


@pytest.mark.parametrize(
    ("make", "kind"),
    [(lose, Kind.LOST), (truncate, Kind.DAMAGED), (truncate_without_row, Kind.BROKEN)],
)
def test_a_file_that_is_loaded_again_before_its_repair(
    engine: LocalEngine, make: Callable[[LocalEngine], None], kind: Kind
) -> None:
    make(engine)
    (problem,) = (problem for problem in engine.check() if problem.subject == LAYER)
    assert problem.kind is kind
    load(engine)
    assert engine.repair(problem) == NO_LONGER_SO
    assert file(engine, LAYER).read_bytes() == APP.layers[1]
    assert not (engine.path / "quarantine").exists()
    assert list(engine.check()) == list(engine.check_layers()) == []


def test_a_file_that_is_replaced_while_it_is_hashed(
    engine: LocalEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was found of the file before it is not reported of the new one."""
    wrong = APP.layers[1][:-1] + b"x"
    damage(engine, LAYER, wrong)
    from_hash = digests.from_hash

    def replaced(algorithm: str, state: Any) -> Digest:
        found = from_hash(algorithm, state)
        if found == archives.digest(wrong):
            new = engine.path / "new"
            new.write_bytes(APP.layers[1])
            new.chmod(0o444)
            new.rename(file(engine, LAYER))
        return found

    monkeypatch.setattr(digests, "from_hash", replaced)
    assert list(engine.check()) == []


@pytest.mark.parametrize("make", [lose, lambda engine: file(engine, LAYER).chmod(0o644)])
def test_a_blob_that_is_collected_before_its_repair(
    engine: LocalEngine, make: Callable[[LocalEngine], None]
) -> None:
    make(engine)
    (problem,) = engine.check()
    engine.remove("app:1")
    list(engine.collector().collect())
    assert engine.repair(problem) == NO_LONGER_SO
    assert list(engine.check()) == []


def collect(engine: LocalEngine) -> None:
    for image in engine.images.all():
        engine.images.delete(image.name)
    list(engine.collector().collect())
    assert list(engine.content.files()) == []


def forget(engine: LocalEngine) -> None:
    for table in ("images", "targets", "members", "manifests", "blobs"):
        engine.database.connection.execute(f"DELETE FROM {table}")


def drop_a_label(engine: LocalEngine) -> None:
    target = engine.find_one("app:1").target.digest
    engine.content.update(target, {"containerd.io/gc.ref.content.1": ""})


@pytest.mark.parametrize(
    ("make", "kind"),
    [(forget, Kind.UNKNOWN), (forget, Kind.NAMELESS), (drop_a_label, Kind.LABEL)],
)
def test_a_blob_that_is_collected_before_it_is_restored(
    engine: LocalEngine, make: Callable[[LocalEngine], None], kind: Kind
) -> None:
    make(engine)
    for problem in engine.check():
        if problem.kind is kind:
            collect(engine)
            assert engine.repair(problem) == NO_LONGER_SO
            break
        engine.repair(problem)
    assert list(engine.check()) == []
    assert saved(engine) == {}


def test_a_file_that_is_collected_while_it_is_given_a_row(
    engine: LocalEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine.database.connection.execute("DELETE FROM blobs WHERE digest = ?", (LAYER,))
    (problem,) = (problem for problem in engine.check() if problem.subject == LAYER)
    transaction = engine.database.transaction

    def late() -> AbstractContextManager[Connection]:
        file(engine, LAYER).unlink(missing_ok=True)
        return transaction()

    monkeypatch.setattr(engine.database, "transaction", late)
    assert engine.repair(problem) == NO_LONGER_SO
    assert engine.content.sizes([LAYER]) == {}


def test_a_sound_database_is_checked_once(
    engine: LocalEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    read, seen = engine.database.read, []

    def counted(sql: str, parameters: Any = ()) -> list[Any]:
        seen.append(sql)
        return read(sql, parameters)

    monkeypatch.setattr(engine.database, "read", counted)
    assert list(engine.check()) == []
    assert seen.count("PRAGMA integrity_check") == seen.count("PRAGMA foreign_key_check") == 1


def test_what_an_image_lacks_is_named_once(engine: LocalEngine) -> None:
    file(engine, LAYER).unlink()
    repaired(engine)
    (problem,) = engine.check()
    assert problem.text.count(LAYER) == 1


def test_a_wrong_size_of_a_good_blob(engine: LocalEngine) -> None:
    """The row is wrong, and the file stays where it is."""
    engine.database.connection.execute("UPDATE blobs SET size = size + 1")
    assert {kind for kind, _ in found(engine)} >= {Kind.SIZE}
    repaired(engine)
    assert list(engine.check()) == []
    assert not (engine.path / "quarantine").exists()


def test_a_repair_that_fails_leaves_its_problem(
    engine: LocalEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuses(*_: object) -> None:
        raise NotFound("image", "app:1")

    engine.database.connection.execute("DELETE FROM targets")
    file(engine, LAYER).chmod(0o644)
    with monkeypatch.context() as patch:
        patch.setattr(engine.images, "record", refuses)
        assert {problem.kind for problem in repaired(engine)} == {Kind.RECORD}
    assert repaired(engine) == []
    assert list(engine.check()) == []


def test_a_damaged_database(engine: LocalEngine) -> None:
    """An index that disagrees with its table, which only the integrity check sees."""
    connection = engine.database.connection
    connection.execute("PRAGMA writable_schema = ON")
    connection.execute(
        "UPDATE sqlite_master SET sql = 'CREATE INDEX images_path ON images (name)'"
        " WHERE name = 'images_path'"
    )
    connection.execute("PRAGMA writable_schema = OFF")
    engine.database.close()
    with LocalEngine(engine.path) as again:
        problems = list(again.check())
        assert {problem.kind for problem in problems} == {Kind.DATABASE}
        assert repaired(again) == []
        assert list(again.check()) == []


WRONG_ROWS = {
    "an event": (
        Kind.EVENT,
        "UPDATE events SET time_ns = 'x' WHERE number = 1",
    ),
    "an event that is no UTF-8": (
        Kind.EVENT,
        "UPDATE events SET name = cast(x'ff' AS TEXT) WHERE number = 1",
    ),
    "a lease": (Kind.LEASE, "INSERT INTO leases VALUES ('a/b', 0, NULL, '{}', 0)"),
    "a lease that is no UTF-8": (
        Kind.LEASE,
        "INSERT INTO leases VALUES (cast(x'ff' AS TEXT), 0, NULL, '{}', 0)",
    ),
}


@pytest.mark.parametrize("what", WRONG_ROWS)
def test_a_wrong_row_of_an_event_or_a_lease(engine: LocalEngine, what: str) -> None:
    """It is the only row that goes, and hides nothing else."""
    engine.tag("app:1", "app:2")
    events, images = engine.events.after(), engine.images.all()
    kind, statement = WRONG_ROWS[what]
    file(engine, LAYER).chmod(0o644)
    with engine.leases.hold() as lease:
        engine.database.connection.execute(statement)
        assert [kind for kind, _ in found(engine)] == [kind, Kind.MODE]
        assert repaired(engine) == []
        assert list(engine.check()) == []
        assert engine.leases.list() == [lease]
    assert engine.events.after() == events[1 if kind is Kind.EVENT else 0 :]
    assert engine.images.all() == images


def test_a_wrong_event_that_sqlite_finds(engine: LocalEngine) -> None:
    events, images = engine.events.after(), engine.images.all()
    connection = engine.database.connection
    connection.execute("PRAGMA writable_schema = ON")
    change = "UPDATE sqlite_master SET sql = replace(sql, ?, ?) WHERE name = 'events'"
    strict, lax = "action TEXT NOT NULL", "action TEXT"
    connection.execute(change, (strict, lax))
    connection.execute("PRAGMA writable_schema = RESET")
    connection.execute("UPDATE events SET action = NULL WHERE number = 1")
    connection.execute("PRAGMA writable_schema = ON")
    connection.execute(change, (lax, strict))
    connection.execute("PRAGMA writable_schema = RESET")
    assert found(engine) == [(Kind.DATABASE, ())]
    (problem,) = engine.check()
    assert engine.repair(problem) == "rebuilt its indexes, removed 1 wrong row"
    assert list(engine.check()) == []
    assert (engine.events.after(), engine.images.all()) == (events[1:], images)


def test_a_wrong_lease_that_has_made_way_for_another(engine: LocalEngine) -> None:
    engine.database.connection.execute("INSERT INTO leases VALUES ('a/b', 0, NULL, '{}', 0)")
    (problem,) = engine.check()
    engine.database.connection.execute("DELETE FROM leases")
    with engine.leases.hold() as lease:
        assert engine.repair(problem) == NO_LONGER_SO
        assert engine.leases.list() == [lease]


def test_rows_without_their_lease(engine: LocalEngine) -> None:
    connection = engine.database.connection
    connection.execute("PRAGMA foreign_keys = OFF")
    connection.execute("INSERT INTO lease_resources VALUES ('nobody', 'sha256:x')")
    assert found(engine) == [(Kind.DATABASE, ())]
    assert repaired(engine) == []
    assert list(engine.check()) == []


def test_a_store_that_was_copied(engine: LocalEngine, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    engine.database.connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    shutil.copytree(engine.path, copy)
    copy.chmod(0o700)
    with LocalEngine(copy) as other:
        assert list(other.check()) == []
        assert saved(other) == saved(engine)


def test_an_image_that_goes_while_it_is_looked_at(
    engine: LocalEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    def goes(content: Blobs, target: Descriptor) -> Graph:
        found = graph(content, target)
        if target.digest in {image.target.digest for image in engine.images.all()}:
            engine.images.delete(engine.images.names_of(target.digest)[0].name)
            list(engine.collector().collect())
        return found

    with monkeypatch.context() as patch:
        patch.setattr(fsck_images, "graph", goes)
        assert list(engine.check()) == []
    assert saved(engine) == {}

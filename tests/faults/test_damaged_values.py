"""Values in the database are damaged, which SQLite does not notice: by single bits, by statements.

Every command ends with one line, and `imgfs fsck --repair` leaves nothing to repair.
"""

import random
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from imgfs import cli
from tests import archives
from tests.archives import ImageParts
from tests.cli.command import Done
from tests.faults.stores import copied
from tests.local_engine import LocalEngine

APP, OTHER = ImageParts(), ImageParts(layers=[archives.layer("other")])
ARM, AMD = ImageParts(architecture="arm64"), ImageParts(architecture="amd64")
ARCHIVES = (
    archives.docker_archive((APP, ["app:1", "app:2"]), (OTHER, ["other:1"])),
    archives.multi_platform("docker.io/library/multi:1", [ARM, AMD]),
    archives.oci_archive((ImageParts(extra={"author": "nobody"}), None)),
)
NAMES = {"app:1", "app:2", "other:1", "multi:1"}
COMMANDS = (
    ("images",),
    ("events", "--since", "1h", "--until", "0s"),
    ("inspect", "app:1"),
    ("history", "other:1"),
    ("info",),
    ("gc", "-n"),
    ("tag", "other:1", "new:1"),
)
FLIPS = 40
ZEROS = "sha256:" + "0" * 64
Run = Callable[..., Done]


TIMELESS = """
    UPDATE blobs SET created_at = 0.5, updated_at = 0.5;
    UPDATE images SET created_at = 0.5, updated_at = 0.5;
    UPDATE events SET time_ns = 7;
    VACUUM
"""


@pytest.fixture
def template(tmp_path: Path) -> Path:
    """Return the path of a closed store with images."""
    return made(tmp_path / "template")


def made(path: Path) -> Path:
    """Make a store whose database has the same bytes each time: no time, and nothing of a lease."""
    with LocalEngine(path) as engine:
        for archive in ARCHIVES:
            with engine.begin_import() as session:
                session.feed(archive)
                session.finish()
        with engine.leases.hold({"for": "a test"}) as lease:
            engine.leases.add(lease.id, ZEROS)
    spoil(path, TIMELESS)
    return path


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Return a function that runs a command in this process, which raises what is unexpected."""
    monkeypatch.setenv("IMGFS_DEBUG", "1")

    def run(store: Path, *arguments: str) -> Done:
        status = cli.run(["--store", str(store), *arguments])
        out, err = capsys.readouterr()
        assert len(err.splitlines()) <= 1, err
        return Done(status, out.encode(), err.encode())

    return run


def names(run: Run, store: Path) -> set[str]:
    done = run(store, "images", "--format", "{{.Repository}}:{{.Tag}}")
    assert done.status == 0, done
    return {*done.lines}


def mended(run: Run, store: Path) -> None:
    """Repair a store, and see that it is well then."""
    for command in COMMANDS:
        run(store, *command)
    for _ in range(2):
        if run(store, "fsck").status:
            run(store, "fsck", "--repair")
    assert run(store, "fsck").lines == ["nothing is wrong"]
    assert run(store, "gc").status == 0


def test_the_bits_are_the_same_each_time(template: Path, tmp_path: Path) -> None:
    other = made(tmp_path / "other")
    assert (other / "imgfs.db").read_bytes() == (template / "imgfs.db").read_bytes()


def test_single_bits(template: Path, tmp_path: Path, run: Run) -> None:
    data = (template / "imgfs.db").read_bytes()
    used = [offset for offset, byte in enumerate(data) if byte]
    numbers = random.Random(7)
    for _ in range(FLIPS):
        offset, bit = numbers.choice(used), numbers.randrange(8)
        store = copied(template, tmp_path / "store")
        flipped = bytearray(data)
        flipped[offset] ^= 1 << bit
        (store / "imgfs.db").write_bytes(flipped)
        mended(run, store)


def test_the_format_of_the_schema(template: Path, run: Run) -> None:
    """SQLite calls a header that states another one an error in SQL."""
    data = bytearray((template / "imgfs.db").read_bytes())
    data[47] ^= 1
    (template / "imgfs.db").write_bytes(data)
    mended(run, template)


APP_1 = "WHERE name = 'docker.io/library/app:1'"
ONE_BLOB = "WHERE digest = (SELECT min(digest) FROM blobs)"
INVALID_NAMES = {
    "a name that cannot be parsed": f"UPDATE images SET name = 'docker.io/a b:1' {APP_1}",
    "a name that is not full": f"UPDATE images SET name = 'app:1' {APP_1}",
    "a name that is another digest": f"UPDATE images SET name = '{ZEROS}' {APP_1}",
    "no digest of a blob": "UPDATE images SET digest = 'sha256:x',"
    f" target = json_set(target, '$.digest', 'sha256:y') {APP_1}",
    "a name that is no text": f"UPDATE images SET name = x'41' {APP_1}",
    "a name that is no UTF-8": f"UPDATE images SET name = cast(x'ff41' AS TEXT) {APP_1}",
}
DAMAGES = {
    "a target that is no JSON": f"UPDATE images SET target = 'nonsense' {APP_1}",
    "a target of an unknown digest": "UPDATE images SET target ="
    f" json_set(target, '$.digest', '{ZEROS}') {APP_1}",
    "a target of no digest": "UPDATE images SET target = json_set(target, '$.digest', 'sha25:a')",
    "a target of another size": "UPDATE images SET target = json_set(target, '$.size', 7)",
    "a target of another type": "UPDATE images SET target ="
    " json_set(target, '$.mediaType', 'text/plain')",
    "labels of images": "UPDATE images SET labels = '[]'",
    "labels of images that are bytes": "UPDATE images SET labels = x'ff'",
    "times of images": "UPDATE images SET created_at = 'x'",
    "paths of images": "UPDATE images SET path = x'00'",
    "revisions of images": "UPDATE images SET revision = 'x'",
    "a digest of no algorithm": f"UPDATE blobs SET digest = 'sha257:a' {ONE_BLOB}",
    "another digest": f"UPDATE blobs SET digest = '{ZEROS}' {ONE_BLOB}",
    "sizes": "UPDATE blobs SET size = size + 1",
    "sizes that are too large": f"UPDATE blobs SET size = {2**63 - 1}",
    "sizes without end": "UPDATE blobs SET size = 9e999",
    "sizes that are no numbers": "UPDATE blobs SET size = 'many'",
    "times of blobs": "UPDATE blobs SET created_at = 'x'",
    "labels that are no JSON": "DROP TRIGGER blobs_update; UPDATE blobs SET labels = '{'",
    "labels that are no texts": "DROP TRIGGER blobs_update; UPDATE blobs SET"
    """ labels = '{"a": 1}'""",
    "no links": "DROP TABLE links",
    "no missing": "DROP TABLE missing",
    "no events": "DROP TABLE events",
    "no leases": "DROP TABLE leases",
    "no references": "DROP TABLE refs",
    "a view of events": "ALTER TABLE events RENAME TO old; CREATE VIEW events AS SELECT * FROM old",
    "a view of images": "ALTER TABLE images RENAME TO old; CREATE VIEW images AS SELECT * FROM old",
    "no column of events": "ALTER TABLE events DROP COLUMN error",
    "no labels": "ALTER TABLE blobs RENAME COLUMN labels TO label",
    "a lease of a strange name": "INSERT INTO leases VALUES ('a/b', 0, NULL, '{}', 0)",
    "a lease of strange labels": "INSERT INTO leases VALUES ('ab', 0, NULL, '{', 0)",
    "times of events": "UPDATE events SET time_ns = 'x'",
    "actions of events": "UPDATE events SET action = x'ff'",
    "names of events": "UPDATE events SET name = cast(x'ff' AS TEXT)",
    "bytes of events": "UPDATE events SET reclaimed = 'x'",
    "platforms": "UPDATE manifests SET platform = cast(x'ff' AS TEXT)",
    "sizes of manifests": "UPDATE manifests SET size = 'x'",
    "times of targets": "UPDATE targets SET created = 'x'",
    "an older schema": "PRAGMA user_version = 3",
    "an index that lacks a row": "PRAGMA writable_schema = ON; UPDATE sqlite_master SET"
    " sql = sql || ' WHERE path > ''m''' WHERE name = 'images_path'",
}


def spoil(store: Path, statements: str) -> None:
    with closing(sqlite3.connect(store / "imgfs.db")) as database:
        database.executescript(statements)
        database.commit()


@pytest.mark.parametrize("what", DAMAGES)
def test_values(template: Path, run: Run, what: str) -> None:
    """All names stay, and can be changed."""
    spoil(template, DAMAGES[what])
    mended(run, template)
    assert names(run, template) - {"new:1"} == NAMES | {"<none>:<none>"}
    assert run(template, "tag", "other:1", "new:1").status == 0


@pytest.mark.parametrize("what", INVALID_NAMES)
def test_names(template: Path, run: Run, what: str) -> None:
    """All other names stay."""
    spoil(template, INVALID_NAMES[what])
    mended(run, template)
    assert names(run, template) - {"new:1", "<none>:<none>"} == NAMES - {"app:1"}


def test_rows_that_are_there_twice(template: Path, run: Run) -> None:
    """An index cannot be rebuilt: SQLite calls that a violated constraint."""
    data = (template / "imgfs.db").read_bytes()
    row = b"docker.io/library/app:2app:2"
    assert row in data
    (template / "imgfs.db").write_bytes(data.replace(row, row.replace(b"2", b"1", 1)))
    mended(run, template)
    assert names(run, template) >= NAMES - {"app:1", "app:2"}

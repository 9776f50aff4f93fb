from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from engine.errors import AlreadyExists, InvalidDigest, NotFound
from engine.spec import digest as digests
from engine.stores.local.database import Database
from engine.stores.local.leases import LocalLeases
from engine.stores.records import Lease

PROJECT = Path(__file__).parents[3]
A, B = sorted([digests.of_bytes(b"a"), digests.of_bytes(b"b", "sha512")])


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def leases(tmp_path: Path, clock: Clock) -> Iterator[LocalLeases]:
    with Database(tmp_path / "imgfs.db") as database:
        yield LocalLeases(tmp_path, database, clock)


def test_create(leases: LocalLeases) -> None:
    lease = leases.create("x", 10, {"k": "v"})
    assert lease == Lease("x", 1000.0, 1010.0, {"k": "v"})
    assert leases.list() == [lease]
    assert leases.create().expires_at == 1000.0 + 24 * 3600
    assert leases.create(expires_in=None).expires_at is None


def test_ids_of_our_own_differ(leases: LocalLeases) -> None:
    assert len({leases.create().id for _ in range(20)}) == 20


def test_create_what_is_there(leases: LocalLeases) -> None:
    leases.create("x")
    with pytest.raises(AlreadyExists):
        leases.create("x")
    assert len(leases.list()) == 1


def test_resources(leases: LocalLeases) -> None:
    leases.create("x")
    for digest in (B, A, B):
        leases.add("x", digest)
    assert leases.resources("x") == [A, B]


def test_what_is_not_there(leases: LocalLeases) -> None:
    for use in (leases.resources, leases.delete, lambda lease: leases.add(lease, A)):
        with pytest.raises(NotFound, match="lease x: not found"):
            use("x")


def test_what_is_no_digest(leases: LocalLeases) -> None:
    leases.create("x")
    with pytest.raises(InvalidDigest):
        leases.add("x", "sha256:x")
    with pytest.raises(InvalidDigest):
        leases.holders("latest")


def test_delete_lets_go_of_the_resources(leases: LocalLeases) -> None:
    leases.create("x")
    leases.add("x", A)
    leases.delete("x")
    assert leases.list() == leases.holders(A) == []
    leases.create("x")
    assert leases.resources("x") == []


def test_list_is_in_order_of_age(leases: LocalLeases, clock: Clock) -> None:
    for name in "cab":
        leases.create(name)
        clock.now += 1
    assert [lease.id for lease in leases.list()] == ["c", "a", "b"]


def test_holders(leases: LocalLeases) -> None:
    one, two, other = (leases.create(name) for name in ("one", "two", "other"))
    leases.add(one.id, A)
    leases.add(two.id, A)
    leases.add(other.id, B)
    assert leases.holders(A) == [one, two]
    assert leases.holders(A, except_lease="one") == [two]
    assert leases.holders(B, except_lease="other") == []
    assert leases.holders(digests.of_bytes(b"c")) == []


def test_an_expired_lease_is_gone(leases: LocalLeases, clock: Clock) -> None:
    leases.create("x", 10)
    leases.add("x", A)
    forever = leases.create("forever", None)
    clock.now += 9.5
    assert [lease.id for lease in leases.holders(A)] == ["x"]
    clock.now += 0.5
    assert leases.list() == [forever]
    assert leases.holders(A) == []
    with pytest.raises(NotFound):
        leases.add("x", B)
    with pytest.raises(NotFound):
        leases.resources("x")


def test_the_id_of_an_expired_lease_is_free(leases: LocalLeases, clock: Clock) -> None:
    leases.create("x", 10)
    leases.add("x", A)
    clock.now += 10
    again = leases.create("x", 10)
    assert leases.list() == [again]
    assert leases.resources("x") == []


def test_prune(leases: LocalLeases, clock: Clock) -> None:
    kept = [leases.create("later", 20), leases.create("never", None)]
    soon = leases.create("soon", 10)
    leases.add("soon", A)
    assert leases.prune() == []
    clock.now += 10
    assert leases.ended() == leases.prune() == [soon]
    with pytest.raises(NotFound):
        leases.delete("soon")
    clock.now -= 10
    assert leases.list() == kept
    assert leases.holders(A) == []


def test_hold(leases: LocalLeases) -> None:
    with leases.hold({"k": "v"}) as lease:
        assert leases.list() == [lease]
        assert lease.labels == {"k": "v"}
    assert leases.list() == []


def test_hold_ends_with_an_error(leases: LocalLeases) -> None:
    with pytest.raises(ZeroDivisionError), leases.hold():
        raise ZeroDivisionError
    assert leases.list() == []


def test_hold_does_not_expire(leases: LocalLeases, clock: Clock) -> None:
    with leases.hold() as lease:
        leases.add(lease.id, A)
        clock.now += 1e9
        assert leases.ended() == leases.prune() == []
        assert leases.protected() == {A}
        assert leases.protected({lease.id}) == set()
    assert leases.protected() == set()


def test_hold_outlived_by_nobody(leases: LocalLeases) -> None:
    with leases.hold() as lease:
        leases.delete(lease.id)
    assert leases.list() == []


def test_hold_ends_with_its_process(leases: LocalLeases, tmp_path: Path) -> None:
    script = """
import os, sys
from pathlib import Path
from engine.stores.local.database import Database
from engine.stores.local.leases import LocalLeases
root = Path(sys.argv[1])
with LocalLeases(root, Database(root / "imgfs.db")).hold() as lease:
    print(lease.id, flush=True)
    sys.stdin.readline()
    os.kill(os.getpid(), 9)
"""
    command = [sys.executable, "-c", script, str(tmp_path)]
    with subprocess.Popen(
        command, cwd=PROJECT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as child:
        assert child.stdout is not None
        lease = child.stdout.readline().strip()
        leases.add(lease, A)
        assert leases.prune() == []
        child.communicate("die\n")
    assert child.returncode == -9
    assert leases.protected() == {A}
    assert [ended.id for ended in leases.ended()] == [lease]
    assert [ended.id for ended in leases.prune()] == [lease]
    assert leases.list() == []
    assert os.listdir(tmp_path / "leases") == []


def test_prune_tidies_files_of_no_lease(leases: LocalLeases, tmp_path: Path) -> None:
    (tmp_path / "leases" / "stray").touch()
    with leases.hold() as lease:
        leases.prune()
        assert os.listdir(tmp_path / "leases") == [lease.id]


def test_leases_are_kept(leases: LocalLeases, tmp_path: Path, clock: Clock) -> None:
    lease = leases.create("x", labels={"k": "v"})
    leases.add("x", A)
    with Database(tmp_path / "imgfs.db") as database:
        again = LocalLeases(tmp_path, database, clock)
        assert again.list() == again.holders(A) == [lease]


def test_part_of_a_transaction(tmp_path: Path, clock: Clock) -> None:
    with Database(tmp_path / "imgfs.db") as database:
        leases = LocalLeases(tmp_path, database, clock)
        leases.create("x")

        def fail() -> None:
            with database.transaction():
                leases.add("x", A)
                leases.create("y")
                raise ZeroDivisionError

        with pytest.raises(ZeroDivisionError):
            fail()
        assert leases.resources("x") == []
        assert [lease.id for lease in leases.list()] == ["x"]

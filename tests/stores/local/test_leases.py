from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from engine.errors import InvalidDigest, NotFound
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


def test_a_lease_has_the_time_of_its_start(leases: LocalLeases) -> None:
    with leases.hold({"k": "v"}) as lease:
        assert lease == Lease(lease.id, 1000.0, {"k": "v"})
        assert leases.list() == [lease]


def test_ids_differ(leases: LocalLeases) -> None:
    with ExitStack() as stack:
        assert len({stack.enter_context(leases.hold()).id for _ in range(20)}) == 20


def test_a_lease_protects_digests(leases: LocalLeases) -> None:
    with leases.hold() as lease:
        for digest in (B, A, B):
            leases.add(lease.id, digest)
        assert leases.protected() == {A, B}


def test_what_is_not_there(leases: LocalLeases) -> None:
    for use in (leases.delete, lambda lease: leases.add(lease, A)):
        with pytest.raises(NotFound, match="lease x: not found"):
            use("x")


def test_what_is_no_digest(leases: LocalLeases) -> None:
    with leases.hold() as lease, pytest.raises(InvalidDigest):
        leases.add(lease.id, "sha256:x")
    with pytest.raises(InvalidDigest):
        leases.holders("latest")


def test_the_end_lets_go_of_the_digests(leases: LocalLeases) -> None:
    with leases.hold() as lease:
        leases.add(lease.id, A)
    assert leases.list() == leases.holders(A) == []
    assert leases.protected() == set()
    with pytest.raises(NotFound):
        leases.add(lease.id, B)


def test_list_is_in_order_of_age(leases: LocalLeases, clock: Clock) -> None:
    with ExitStack() as stack:
        held = []
        for _ in range(3):
            held.append(stack.enter_context(leases.hold()))
            clock.now += 1
        assert leases.list() == held


def test_holders(leases: LocalLeases, clock: Clock) -> None:
    with leases.hold() as one:
        clock.now += 1
        with leases.hold() as two, leases.hold() as other:
            leases.add(one.id, A)
            leases.add(two.id, A)
            leases.add(other.id, B)
            assert leases.holders(A) == [one, two]
            assert leases.holders(B) == [other]
            assert leases.holders(digests.of_bytes(b"c")) == []


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


def test_a_lease_is_seen_by_others(leases: LocalLeases, tmp_path: Path, clock: Clock) -> None:
    with leases.hold({"k": "v"}) as lease, Database(tmp_path / "imgfs.db") as database:
        leases.add(lease.id, A)
        others = LocalLeases(tmp_path, database, clock)
        assert others.list() == others.holders(A) == [lease]


def test_part_of_a_transaction(tmp_path: Path, clock: Clock) -> None:
    with Database(tmp_path / "imgfs.db") as database:
        leases = LocalLeases(tmp_path, database, clock)

        def fail(lease: Lease) -> None:
            with database.transaction():
                leases.add(lease.id, A)
                raise ZeroDivisionError

        with leases.hold() as lease:
            with pytest.raises(ZeroDivisionError):
                fail(lease)
            assert leases.protected() == set()
            assert leases.list() == [lease]


def test_close_ends_leases_that_nothing_ended(leases: LocalLeases, tmp_path: Path) -> None:
    """A signal may come after a lease is made, and before anything can end it."""
    held = leases.hold()
    held.__enter__()
    assert len(leases.list()) == 1
    leases.close()
    assert leases.list() == []
    assert list((tmp_path / "leases").iterdir()) == []
    held.__exit__(None, None, None)

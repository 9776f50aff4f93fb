"""Several processes load, tag, save, remove, commit, check and collect on one mounted store, while
others are killed; each process knows what it may see.
"""

import json
import os
import random
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests import archives
from tests.crash.cases import ROUNDS
from tests.crash.judge import examine
from tests.crash.kills import Forks
from tests.crash.workers import POOL
from tests.local_engine import LocalEngine
from tests.mounts import has_ended, lacking, mounts
from tests.waiting import wait_until

WORKERS = 3
STEPS = 40
KILLS = 12
VICTIM = "docker.io/library/victim:1"
pytestmark = pytest.mark.timeout(300 + 100 * ROUNDS)


@pytest.mark.parametrize("kind", ["engine", "mount"])
def test_many_processes_can_share_a_store(kind: str, room: Path, forked: Forks) -> None:
    """First without a mount, then with one."""
    store = room / "store"
    LocalEngine(store).close()
    if kind == "engine":
        own = _together(store, forked, [])
    else:
        if reason := lacking():
            pytest.skip(reason)
        with _mounted(room) as mount:
            own = _together(store, forked, [("mount", mount)])
    found = examine(store)
    assert {name: target for name, target in found.items() if "/own-" in name} == own
    assert all(
        name == target for name, target in found.items() if target not in own.values() | POOL.keys()
    )


def _together(store: Path, forked: Forks, more: list[tuple[str, Path]]) -> dict[str, str]:
    """Run all workers; return the names that they report at the end."""
    places = [*(("engine", store) for _ in range(WORKERS)), *more]
    workers = [_start(kind, place, number) for number, (kind, place) in enumerate(places)]
    try:
        _kill(store, forked)
        own: dict[str, str] = {}
        for worker in workers:
            out, err = worker.communicate()
            assert worker.returncode == 0, err
            own |= json.loads(out)
        return own
    finally:
        for worker in workers:
            worker.kill()
            worker.communicate()


def _start(kind: str, place: Path, number: int) -> "subprocess.Popen[str]":
    command = [sys.executable, "-m", "tests.crash.workers", kind, place, number, STEPS * ROUNDS]
    pipe = subprocess.PIPE
    return subprocess.Popen([str(w) for w in command], stdout=pipe, stderr=pipe, text=True)


def _kill(store: Path, forked: Forks) -> None:
    """Kill loads; each of their names is as before or as after the load."""
    chance = random.Random(0)
    archive = store.parent / "victim.tar"
    with LocalEngine(store) as engine:
        for _ in range(KILLS * ROUNDS):
            before = engine.images.find(VICTIM)
            target = chance.choice([*POOL])
            archive.write_bytes(archives.oci_archive((POOL[target], VICTIM)))
            at = chance.randrange(1, 300)
            status, _ = forked.run(at, ["--store", str(store), "load", "-q", str(archive)])
            assert status in (0, -9)
            after = engine.images.find(VICTIM)
            found = after.target.digest if after else ""
            allowed = {target} if status == 0 else {target, before.target.digest if before else ""}
            assert found in allowed


@contextmanager
def _mounted(room: Path) -> Iterator[Path]:
    with mounts(room) as start:
        mounted = start()
        yield mounted.path
        os.kill(mounted.pid, signal.SIGTERM)
        wait_until(lambda: has_ended(mounted.pid), "the mount's process ends")

"""A library user forks: the child cannot use the store of its parent, gets an error, and harms
nothing.
"""

import subprocess
import sys
from pathlib import Path

from tests.faults.stores import leftovers, listed, load
from tests.local_engine import LocalEngine

PROJECT = Path(__file__).parents[2]

PRELUDE = """
import os, sys, threading
from pathlib import Path
from tests.local_engine import LocalEngine
from engine.errors import EngineError
from tests.faults import stores

store = Path(sys.argv[1])

def child(work):
    # Runs it in a forked process that exits as a Python process does; has its exit status.
    pid = os.fork()
    if pid == 0:
        work()
        sys.exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])

def refused(work):
    try:
        work()
    except EngineError as error:
        return
    raise AssertionError("it was not refused")
"""


def run(script: str, store: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", PRELUDE + script, store],
        cwd=PROJECT,
        capture_output=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr.decode()
    assert done.stderr == b""


def test_a_child_does_not_disturb_the_load_of_its_parent(store: Path) -> None:
    run(
        """
half = len(stores.APP) - 20_000
engine = LocalEngine(store)

def work():
    refused(lambda: session.feed(stores.APP[half:]))
    session.abort()
    engine.close()

with engine, engine.begin_import() as session:
    session.feed(stores.APP[:half])
    left = stores.leftovers(engine)
    assert left
    assert child(work) == 0
    assert child(lambda: sys.exit(0)) == 0
    assert stores.leftovers(engine) == left
    assert [item.kind for item in engine.collector().plan()] == []
    session.feed(stores.APP[half:])
    session.finish()
""",
        store,
    )
    with LocalEngine(store) as engine:
        listed(engine)
        assert [image.familiar for image in engine.images.all()] == ["app:1", "base:1"]
        assert leftovers(engine) == []


def test_a_child_cannot_use_the_open_store_of_its_parent(store: Path) -> None:
    run(
        """
engine = LocalEngine(store)

def work():
    refused(lambda: engine.images.all())
    refused(lambda: stores.tag(engine))
    refused(lambda: engine.database.data_version())
    refused(lambda: LocalEngine(store))
    engine.close()

def leaves():
    with engine:
        pass

engine.database.data_version()
for each in (work, leaves):
    assert child(each) == 0
stores.tag(engine)
with engine.database.transaction():
    engine.tag("base:1", "base:3")
    assert child(leaves) == 0
assert len(engine.images.all()) == 3
engine.close()
assert child(lambda: LocalEngine(store).close()) == 0
""",
        store,
    )
    with LocalEngine(store) as engine:
        assert len(engine.images.all()) == 3


def test_a_child_does_not_wait_for_locks_of_other_threads(store: Path) -> None:
    """Another thread may hold any lock at the time of the fork."""
    run(
        """
engine = LocalEngine(store)
inside, done = threading.Event(), threading.Event()

def write():
    with engine.database.transaction():
        inside.set()
        done.wait()
        engine.tag("base:1", "base:2")

thread = threading.Thread(target=write)
thread.start()
inside.wait()
assert child(lambda: refused(lambda: stores.tag(engine))) == 0
done.set()
thread.join()
engine.close()
""",
        store,
    )
    with LocalEngine(store) as engine:
        assert len(engine.images.all()) == 2


def test_a_child_can_open_the_store_itself(store: Path) -> None:
    run(
        """
def work():
    with LocalEngine(store) as engine:
        stores.load(engine)

assert child(work) == 0
with LocalEngine(store) as engine:
    assert len(engine.images.all()) == 2
    assert child(lambda: LocalEngine(store.parent / "other").close()) == 0
""",
        store,
    )
    with LocalEngine(store) as engine:
        load(engine)


def test_a_child_cannot_use_the_ingest_of_its_parent(store: Path) -> None:
    run(
        """
engine = LocalEngine(store)
with engine, engine.content.writer("ref") as writer:
    for _ in range(8):
        writer.write(bytes(1 << 20))

    def work():
        refused(lambda: writer.write(b"more"))
        refused(writer.digest)
        engine.close()

    assert child(work) == 0
    writer.write(b"more")
    writer.abort()
""",
        store,
    )

"""Whichever system call of an operation fails, the store stays as it was, and the next attempt in
the same process succeeds.
"""

import errno
import itertools
import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest

from engine.errors import StoreError
from tests.faults import stores
from tests.faults.injection import Fault, injected
from tests.faults.stores import OPERATIONS, leftovers, listed
from tests.local_engine import LocalEngine

FAULTS = {
    "once": Fault(0),
    "full": Fault(0, errno.ENOSPC, sqlite_code=sqlite3.SQLITE_FULL),
    "for good": Fault(0, is_lasting=True),
}
LEAVING = {"unlink", "rmdir", "rename"}
"""If one of these calls fails, its file is left for the next collection."""


@pytest.fixture
def template(tmp_path: Path) -> Path:
    """Return the path of a closed store that has an image, and a blob to collect."""
    path = tmp_path / "template"
    with LocalEngine(path) as engine:
        stores.load(engine, stores.BASE)
        with engine.content.writer("stray") as writer:
            writer.write(b"nothing needs it")
            writer.commit()
    return path


def outcome(path: Path, operation: Callable[[LocalEngine], None]) -> object:
    with LocalEngine(path) as engine:
        operation(engine)
        stores.collect(engine)
        return listed(engine)


@pytest.mark.parametrize(
    ("name", "kind"),
    [*((name, kind) for name in OPERATIONS for kind in ("once", "for good")), ("load", "full")],
)
def test_an_operation_succeeds_after_each_failed_call(
    template: Path, tmp_path: Path, name: str, kind: str
) -> None:
    operation = OPERATIONS[name]
    path = stores.copied(template, tmp_path / "store")
    with LocalEngine(path) as engine:
        before = listed(engine)
    after = outcome(path, operation)
    sentences: set[str] = set()
    model = FAULTS[kind]
    for number in itertools.count(step=3 if model.is_lasting else 1):
        fault = Fault(number, model.number, model.is_lasting, model.sqlite_code)
        with LocalEngine(stores.copied(template, path)) as engine:
            engine.database.read("SELECT 1")
            failed = False
            with injected(fault):
                try:
                    operation(engine)
                except (OSError, StoreError) as error:
                    failed = True
                    sentences.add(str(error))
            if not fault.hit:
                break
            if failed:
                if name != "collect":
                    assert listed(engine) == before, fault
                    if not fault.is_lasting and fault.hit[0] not in LEAVING:
                        assert leftovers(engine) == [], fault
                operation(engine)
            stores.collect(engine)
            assert listed(engine) == after, fault
            assert leftovers(engine) == [], fault
    assert sentences
    assert all(sentence.isprintable() for sentence in sentences)

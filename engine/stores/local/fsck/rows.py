"""Check of the rows of events and leases: a store can do without a damaged one."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Final

from engine.errors import StoreDamaged
from engine.stores.local.fsck.problem import Kind, Problem

if TYPE_CHECKING:
    from engine.stores.local.store import LocalStore

_TABLES: Final = {Kind.EVENT: "events", Kind.LEASE: "leases"}
_NO_ROW: Final = -1


def wrong_rows(store: LocalStore) -> Iterator[Problem]:
    """Yield the rows whose values have no meaning.

    Raise StoreDamaged if a column is missing, so that no single row is to blame.
    """
    for kind, read_all in ((Kind.EVENT, store.events.after), (Kind.LEASE, store.leases.list)):
        if _is_wrong(read_all):
            _reader(store, kind)(_NO_ROW)  # raises StoreDamaged if a column is missing
            for (row,) in store.database.read(f"SELECT rowid FROM {_TABLES[kind]}"):
                if _is_wrong(_reader(store, kind), row):
                    yield Problem(kind, str(row), "its values have no meaning")


def delete_row(store: LocalStore, problem: Problem) -> bool:
    """Delete a row; return False if it is no longer wrong, since another lease may have its ID."""
    row = int(problem.subject)
    with store.database.transaction() as connection:
        is_wrong = _is_wrong(_reader(store, problem.kind), row)
        if is_wrong:
            connection.execute(f"DELETE FROM {_TABLES[problem.kind]} WHERE rowid = ?", (row,))
    return is_wrong


def _reader(store: LocalStore, kind: Kind) -> Callable[[int], object]:
    return store.events.at if kind is Kind.EVENT else store.leases.at


def _is_wrong(read: Callable[..., object], *row: int) -> bool:
    try:
        read(*row)
    except StoreDamaged:
        return True
    return False

"""Check of a store: files against their digests, rows against files, and records against graphs.

A check may run while other processes load, tag and collect. A suspected problem is examined again
under the database's write lock, where no change is half done, and reported only if it persists. A
problem that is repaired before the next one is requested has no further consequences.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from engine.progress import Progress
from engine.spec.digest import parse
from engine.stores.local.fsck.blobs import BlobCheck
from engine.stores.local.fsck.images import ImageCheck
from engine.stores.local.fsck.lost_images import lost_images
from engine.stores.local.fsck.problem import Kind, Problem, Unverified
from engine.stores.local.fsck.records import wrong_names, wrong_records
from engine.stores.local.fsck.rows import wrong_rows
from engine.stores.local.fsck.tables import damaged_tables
from engine.stores.local.schema import TABLES

if TYPE_CHECKING:
    from engine.stores.local.store import LocalStore


def check(store: LocalStore, progress: Progress) -> Iterator[Problem]:
    """Yield the problems of the database, the blobs, the images and the tables, in this order.

    `progress` is called with the number of bytes hashed. Raise StoreDamaged if the database has to
    be replaced, StoreError if it cannot be read.
    """
    if problems := list(database_problems(store)):
        yield from problems
        if any(database_problems(store)):
            return  # no row can be trusted
    for table in TABLES:
        store.database.read(f"EXPLAIN DELETE FROM {table}")  # raises StoreDamaged for what is none
    store.images.all()  # raises StoreDamaged for a row that has no meaning
    yield from wrong_rows(store)
    blobs = BlobCheck(store, progress)
    yield from blobs.stored()
    unknown = []
    for problem in blobs.files():
        if problem.kind is Kind.UNKNOWN:
            unknown.append(parse(problem.subject))
        yield problem
    yield from lost_images(store, unknown)
    yield from wrong_names(store)
    yield from ImageCheck(store).images()
    yield from wrong_records(store)
    yield from damaged_tables(store)


def check_layers(store: LocalStore) -> Iterator[Problem]:
    """Yield the layers whose decompressed bytes differ from the diff IDs in configs and labels."""
    yield from ImageCheck(store).layers()


def unverified_layers(store: LocalStore) -> Iterator[Unverified]:
    """Yield the layers that `check_layers` cannot verify, for example encrypted ones."""
    yield from ImageCheck(store).unverified()


def database_problems(store: LocalStore) -> Iterator[Problem]:
    """Yield the problems that SQLite finds in the database."""
    path = str(store.database.path)
    for (text,) in store.database.read("PRAGMA integrity_check"):
        if text != "ok":
            yield Problem(Kind.DATABASE, path, text)
    for table, row, parent, _ in store.database.read("PRAGMA foreign_key_check"):
        yield Problem(Kind.DATABASE, path, f"row {row} of {table} has lost its row of {parent}")

"""Checking a store against itself: files against their names, rows against files, records against
graphs.

A check may run while others load, tag and collect. Whatever looks wrong is looked at once more
under the database's write lock, where nothing is half done; only then is it a problem. A problem
that is repaired before the next one is asked for has no further consequences.
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
from engine.stores.local.fsck.records import wrong_records

if TYPE_CHECKING:
    from engine.stores.local.store import LocalStore


def check(store: LocalStore, progress: Progress) -> Iterator[Problem]:
    """The database, the blobs, then the images; `progress` hears how many bytes have been hashed.

    StoreError where the database cannot be read.
    """
    yield from database_problems(store)
    if any(database_problems(store)):
        return  # nothing that it says could be trusted
    blobs = BlobCheck(store, progress)
    yield from blobs.stored()
    unknown = []
    for problem in blobs.files():
        if problem.kind is Kind.UNKNOWN:
            unknown.append(parse(problem.subject))
        yield problem
    yield from lost_images(store, unknown)
    yield from ImageCheck(store).images()
    yield from wrong_records(store)


def check_layers(store: LocalStore) -> Iterator[Problem]:
    """Every layer, decompressed: is it what configs and labels say?"""
    yield from ImageCheck(store).layers()


def unverified_layers(store: LocalStore) -> Iterator[Unverified]:
    """The layers that `check_layers` has nothing to compare with: encrypted ones, say."""
    yield from ImageCheck(store).unverified()


def database_problems(store: LocalStore) -> Iterator[Problem]:
    """What SQLite finds wrong with the database itself."""
    path = str(store.database.path)
    for (text,) in store.database.read("PRAGMA integrity_check"):
        if text != "ok":
            yield Problem(Kind.DATABASE, path, text)
    for table, row, parent, _ in store.database.read("PRAGMA foreign_key_check"):
        yield Problem(Kind.DATABASE, path, f"row {row} of {table} has lost its row of {parent}")


__all__ = [
    "Kind",
    "Problem",
    "Unverified",
    "check",
    "check_layers",
    "database_problems",
    "unverified_layers",
]

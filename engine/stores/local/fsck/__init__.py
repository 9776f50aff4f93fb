"""Checking a store against itself: files against their names, rows against files, records against
graphs.

A check may run while others load, tag and collect. Whatever looks wrong is looked at once more
under the database's write lock, where nothing is half done; only then is it a problem. A problem
that is repaired before the next one is asked for has no further consequences.
"""

from collections.abc import Iterator

from engine.progress import Progress
from engine.spec.digest import parse
from engine.stores.local.fsck.blobs import BlobCheck
from engine.stores.local.fsck.images import ImageCheck
from engine.stores.local.fsck.lost_images import lost_images
from engine.stores.local.fsck.problem import Kind, Parts, Problem, Unverified
from engine.stores.local.fsck.records import wrong_records


def check(parts: Parts, progress: Progress) -> Iterator[Problem]:
    """The database, the blobs, then the images; `progress` hears how many bytes have been hashed.

    StoreError where the database cannot be read.
    """
    yield from database_problems(parts)
    if any(database_problems(parts)):
        return  # nothing that it says could be trusted
    blobs = BlobCheck(parts, progress)
    yield from blobs.stored()
    unknown = []
    for problem in blobs.files():
        if problem.kind is Kind.UNKNOWN:
            unknown.append(parse(problem.subject))
        yield problem
    yield from lost_images(parts, unknown)
    yield from ImageCheck(parts).images()
    yield from wrong_records(parts)


def check_layers(parts: Parts) -> Iterator[Problem]:
    """Every layer, decompressed: is it what configs and labels say?"""
    yield from ImageCheck(parts).layers()


def unverified_layers(parts: Parts) -> Iterator[Unverified]:
    """The layers that `check_layers` has nothing to compare with: encrypted ones, say."""
    yield from ImageCheck(parts).unverified()


def database_problems(parts: Parts) -> Iterator[Problem]:
    """What SQLite finds wrong with the database itself."""
    path = str(parts.database.path)
    for (text,) in parts.database.read("PRAGMA integrity_check"):
        if text != "ok":
            yield Problem(Kind.DATABASE, path, text)
    for table, row, parent, _ in parts.database.read("PRAGMA foreign_key_check"):
        yield Problem(Kind.DATABASE, path, f"row {row} of {table} has lost its row of {parent}")


__all__ = [
    "Kind",
    "Parts",
    "Problem",
    "Unverified",
    "check",
    "check_layers",
    "database_problems",
    "unverified_layers",
]

"""Repairs without loss: damaged files are moved to `quarantine/`, other problems are corrected.

A file may have been replaced since it was judged: by a load that brings a good one, or by a
collection. A repair compares it once more under the lock, and leaves another file alone.
"""

from __future__ import annotations

import os
import secrets
import sqlite3
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final

from engine.errors import EngineError, NotFound, StoreDamaged, StoreError, counted
from engine.graph import graph, summarize
from engine.image import Image
from engine.spec.digest import Digest, parse
from engine.stores.local.fsck import database_problems
from engine.stores.local.fsck.correct_names import correct_name
from engine.stores.local.fsck.file_version import file_version
from engine.stores.local.fsck.problem import Kind, Problem
from engine.stores.local.fsck.rows import delete_row, wrong_rows
from engine.stores.local.schema import LINKS
from engine.stores.local.writer import BLOB_MODE

if TYPE_CHECKING:
    from engine.stores.local.store import LocalStore

NO_LONGER_SO: Final = "no longer so"
"""The repair of a problem that has ended by itself."""


def repair(store: LocalStore, problem: Problem) -> str:
    """Repair the problem if that is safe; return a description of the repair, "" if there is none.

    The description is NO_LONGER_SO if another process has changed the file or the row meanwhile.

    Raise StoreDamaged if only a new database helps, StoreError, OSError.
    """
    try:
        return _repaired(store, problem)
    except sqlite3.IntegrityError as error:
        reason = f"its rows contradict each other ({error}): run imgfs fsck --repair"
        raise StoreDamaged(str(store.database.path), reason) from error
    except StoreError:
        raise
    except EngineError:
        return ""


def _repaired(store: LocalStore, problem: Problem) -> str:
    match problem.kind:
        case Kind.DATABASE:
            with store.database.transaction() as connection:
                connection.execute("REINDEX")
                removed = sum(delete_row(store, row) for row in list(wrong_rows(store)))
                connection.execute(
                    "DELETE FROM lease_resources WHERE lease NOT IN (SELECT id FROM leases)"
                )
            for worse in database_problems(store):
                raise StoreDamaged(problem.subject, worse.text)
            rows = f", removed {counted(removed, 'wrong row')}" if removed else ""
            return f"rebuilt its indexes{rows}"
        case Kind.LOST | Kind.DAMAGED | Kind.BROKEN | Kind.MODE | Kind.SIZE:
            with store.database.transaction():
                return _repair_file(store, problem) if _is_so(store, problem) else NO_LONGER_SO
        case Kind.EVENT | Kind.LEASE:
            return "removed" if delete_row(store, problem) else NO_LONGER_SO
        case Kind.UNKNOWN:
            return "given a row" if store.content.adopt(parse(problem.subject)) else NO_LONGER_SO
        case Kind.LABEL:
            with suppress(NotFound):
                store.content.update(problem.subject, problem.labels)
                return "labelled anew"
            return NO_LONGER_SO
        case Kind.TABLE:
            store.tables.delete(problem.subject)
            return "removed, and made anew when it is needed"
        case Kind.NAMELESS:
            return _list(store, problem)
        case Kind.RECORD:
            _record(store, problem.subject)
            return "recorded anew"
        case _:
            return ""


def _is_so(store: LocalStore, problem: Problem) -> bool:
    """Return whether the file of a blob is as it was judged, and a lost one still has its row."""
    if problem.kind is Kind.LOST and not store.content.sizes([problem.subject]):
        return False
    return file_version(store.content.path(parse(problem.subject))) == problem.file


def _repair_file(store: LocalStore, problem: Problem) -> str:
    digest = parse(problem.subject)
    match problem.kind:
        case Kind.LOST:
            store.content.delete(digest)
            return "dropped its row"
        case Kind.MODE:
            store.content.path(digest).chmod(BLOB_MODE)
            return f"set to {BLOB_MODE:04o}"
        case Kind.SIZE:
            return _correct_size(store, digest)
        case _:
            return f"moved to {_quarantine(store, digest)}"


def _quarantine(store: LocalStore, digest: Digest) -> Path:
    """Move a file to `quarantine/` and delete its row; the caller holds the lock."""
    shelf = store.directory / "quarantine"
    shelf.mkdir(mode=0o700, exist_ok=True)
    place = shelf / f"{digest.algorithm}-{digest.encoded}-{secrets.token_hex(4)}"
    os.rename(store.content.path(digest), place)
    if store.content.sizes([digest]):
        store.content.delete(digest)
    return place


def _correct_size(store: LocalStore, digest: Digest) -> str:
    size = store.content.path(digest).stat().st_size
    execute = store.database.connection.execute
    execute("UPDATE blobs SET size = ? WHERE digest = ?", (size, digest))
    return f"recorded as {size}"


def _list(store: LocalStore, problem: Problem) -> str:
    """Add the lost row of an image, named by its digest."""
    target = problem.target
    if target is None:
        return ""
    with store.database.transaction():
        if not store.content.sizes([target.digest]):
            return NO_LONGER_SO
        store.images.record(target.digest, summarize(graph(store.content, target)))
        store.images.put(Image(target.digest, target))
    return "listed by its digest"


def _record(store: LocalStore, subject: str) -> None:
    """Derive the records of a name, of a target, or of a blob's references and links again."""
    images = store.images
    with store.database.transaction() as connection:
        if image := images.find(subject):
            correct_name(store, image)
        if named := images.names_of(subject):
            images.record(subject, summarize(graph(store.content, named[0].target)))
        else:
            images.forget(subject)
        connection.execute("DELETE FROM refs WHERE parent = ?", (subject,))
        connection.execute("UPDATE blobs SET labels = labels WHERE digest = ?", (subject,))
        connection.execute("DELETE FROM links WHERE digest = ?", (subject,))
        counted = f"SELECT * FROM ({LINKS}) WHERE digest = ?"
        connection.execute(f"INSERT INTO links {counted}", (subject,))

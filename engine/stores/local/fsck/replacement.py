"""Replacement of a database that is lost, or too damaged to be opened."""

from __future__ import annotations

import secrets
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final
from urllib.parse import quote

from engine.errors import InvalidDigest, InvalidDocument, InvalidReference, StoreBusy
from engine.image import Image, decode
from engine.spec.descriptor import Descriptor
from engine.spec.digest import parse
from engine.stores.local import rebuild
from engine.stores.local.connection import BUSY_SECONDS, translated
from engine.stores.local.database import SUFFIXES, Database, locked_directory
from engine.stores.local.files import sync_directory

if TYPE_CHECKING:
    from engine.stores.local.store import LocalStore

_FILE: Final = "imgfs.db"
_NEW: Final = ".imgfs.db"


def replace_database(root: Path) -> None:
    """Move the database to `quarantine/` and create an empty one, as the beginning of a rebuild.

    The caller has found it damaged within `repairing`, and stays there until the rebuild has ended:
    another replacement in between would lose what this one saves.

    The names that can still be read are saved for `restore_names`, which ends the rebuild. Those
    that an interrupted rebuild has saved are kept. Where SQLite can still lock the old database,
    nobody changes it from the moment when its names are read. A process that uses it goes on with
    the new one. Raise OSError or StoreError.
    """
    shelf = root / "quarantine"
    shelf.mkdir(mode=0o700, exist_ok=True)
    for suffix in SUFFIXES:
        (root / f"{_NEW}{suffix}").unlink(missing_ok=True)  # of an interrupted replacement
    Database(root / _NEW).close()
    mark = secrets.token_hex(4)
    with locked_directory(root), _locked(root / _FILE) as old:
        rebuild.begin(root, rebuild.saved_names(root) | _names(root, old))
        _continue_events(root / _NEW, _last_event(old))
        for suffix in SUFFIXES:
            name = f"{_FILE}{suffix}"
            with suppress(FileNotFoundError):
                (root / name).rename(shelf / f"{name}-{mark}")
        sync_directory(root)  # the new database must never be found with the log of the old one
        (root / _NEW).rename(root / _FILE)
        sync_directory(root)


def restore_names(store: LocalStore) -> list[str]:
    """Restore the saved names of images, which ends a rebuild; return them in familiar form.

    A name that was given to an image since the rebuild began stays with it.
    """
    restored = []
    with store.database.transaction():
        for name, target in sorted(rebuild.saved_names(store.directory).items()):
            if store.images.find(name) is not None:
                continue
            for image in store.images.names_of(target)[:1]:
                with suppress(InvalidReference):
                    restored.append(store.images.put(Image(name, image.target)).familiar)
    rebuild.end(store.directory)
    return restored


@contextmanager
def _locked(path: Path) -> Iterator[sqlite3.Connection | None]:
    """Open a database that may be damaged, and lock it if SQLite can; yield None if it cannot be
    opened. Raise StoreBusy.
    """
    try:
        database = sqlite3.connect(
            f"file:{quote(str(path))}?mode=rw",
            uri=True,
            timeout=BUSY_SECONDS,
            isolation_level=None,
        )
    except sqlite3.Error:
        yield None
        return
    with closing(database):
        database.text_factory = _text
        try:
            database.execute("PRAGMA writable_schema = ON")  # reads on past damage to the schema
            database.execute("BEGIN IMMEDIATE")
        except (sqlite3.Error, UnicodeDecodeError) as error:
            refused = translated(error, str(path)) if isinstance(error, sqlite3.Error) else error
            if isinstance(refused, StoreBusy):
                raise refused from error
        yield database


def _text(data: bytes) -> str:
    return data.decode(errors="replace")


def _names(root: Path, old: sqlite3.Connection | None) -> dict[str, str]:
    """Return the names in as many rows as SQLite can read, with the digests of their targets."""
    found: dict[str, str] = {}
    if old is None:
        return found
    with suppress(sqlite3.Error, UnicodeDecodeError):
        for name, digest, target in old.execute(
            "SELECT name, digest, target FROM images NOT INDEXED WHERE name != digest"
        ):  # keeps the rows before the damage
            if isinstance(name, str):
                found[name] = _target(root, digest, target)
    return found


def _target(root: Path, digest: object, target: object) -> str:
    """Return the digest of a target that a row has twice: the one that is that of a blob."""
    said = [str(digest)]
    with suppress(InvalidDocument, TypeError):
        said.insert(0, decode(str(target), Descriptor, "").digest)
    return next((one for one in said if _has_blob(root, one)), said[-1])


def _has_blob(root: Path, digest: str) -> bool:
    with suppress(InvalidDigest):
        name = parse(digest)
        return (root / "blobs" / name.algorithm / name.encoded).exists()
    return False


def _last_event(old: sqlite3.Connection | None) -> int:
    if old is not None:
        with suppress(sqlite3.Error, TypeError, ValueError):
            (number,) = old.execute(
                "SELECT max(seq) FROM sqlite_sequence WHERE name = 'events'"
            ).fetchone()
            return int(number) if 0 < int(number) < 1 << 62 else 0
    return 0


def _continue_events(path: Path, last: int) -> None:
    """Have the numbers of events go on, so that who waits for the next one finds it."""
    with Database(path) as database, database.transaction() as connection:
        connection.execute("DELETE FROM sqlite_sequence WHERE name = 'events'")
        connection.execute("INSERT INTO sqlite_sequence VALUES ('events', ?)", (last,))

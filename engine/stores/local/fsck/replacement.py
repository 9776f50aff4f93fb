"""Replacement of a database that is lost, or too damaged to be opened."""

from __future__ import annotations

import secrets
import sqlite3
from contextlib import closing, suppress
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

from engine.errors import InvalidReference
from engine.image import Image
from engine.stores.local import rebuild
from engine.stores.local.database import Database

if TYPE_CHECKING:
    from engine.stores.local.store import LocalStore

_FILES = ("imgfs.db", "imgfs.db-wal", "imgfs.db-shm")


def replace_database(root: Path) -> None:
    """Move the database to `quarantine/` and create an empty one, as the beginning of a rebuild.

    The names that can still be read are saved for `restore_names`, which ends the rebuild. Those
    that an interrupted rebuild has saved are kept. Raise OSError or StoreError.
    """
    shelf = root / "quarantine"
    shelf.mkdir(mode=0o700, exist_ok=True)
    rebuild.begin(root, rebuild.saved_names(root) | _names(root / _FILES[0]))
    suffix = secrets.token_hex(4)
    for name in _FILES:
        with suppress(FileNotFoundError):
            (root / name).rename(shelf / f"{name}-{suffix}")
    Database(root / _FILES[0]).close()


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


def _names(path: Path) -> dict[str, str]:
    """Return as many rows as SQLite can read."""
    found: dict[str, str] = {}
    with suppress(sqlite3.Error), closing(sqlite3.connect(_read_only(path), uri=True)) as damaged:
        rows = damaged.execute("SELECT name, digest FROM images NOT INDEXED WHERE name != digest")
        for name, target in rows:  # keeps the rows before the damage
            found |= {str(name): str(target)}
    return found


def _read_only(path: Path) -> str:
    return f"file:{quote(str(path))}?mode=ro"

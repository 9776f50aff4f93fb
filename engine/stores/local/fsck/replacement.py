"""A new database for a store whose own is lost, or so damaged that it cannot be opened."""

from __future__ import annotations

import secrets
import sqlite3
from collections.abc import Mapping
from contextlib import closing, suppress
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

from engine.errors import InvalidReference
from engine.image import Image
from engine.stores.local.database import Database

if TYPE_CHECKING:
    from engine.stores.local.store import LocalStore

_FILES = ("imgfs.db", "imgfs.db-wal", "imgfs.db-shm")


def replace_database(root: Path) -> dict[str, str]:
    """Move what is there to `quarantine/` and make an empty one; the names and their targets that
    could still be read. OSError, StoreError.
    """
    shelf = root / "quarantine"
    shelf.mkdir(mode=0o700, exist_ok=True)
    names = _names(root / _FILES[0])
    suffix = secrets.token_hex(4)
    for name in _FILES:
        with suppress(FileNotFoundError):
            (root / name).rename(shelf / f"{name}-{suffix}")
    Database(root / _FILES[0]).close()
    return names


def restore_names(store: LocalStore, names: Mapping[str, str]) -> list[str]:
    """Give names back to the images that are there without one; which, in familiar form."""
    restored = []
    with store.database.transaction():
        for name, target in sorted(names.items()):
            for image in store.images.names_of(target)[:1]:
                with suppress(InvalidReference):
                    restored.append(store.images.put(Image(name, image.target)).familiar)
    return restored


def _names(path: Path) -> dict[str, str]:
    """As many rows as SQLite can read."""
    found: dict[str, str] = {}
    with suppress(sqlite3.Error), closing(sqlite3.connect(_read_only(path), uri=True)) as damaged:
        rows = damaged.execute("SELECT name, digest FROM images NOT INDEXED WHERE name != digest")
        for name, target in rows:  # those before the damage stay
            found |= {str(name): str(target)}
    return found


def _read_only(path: Path) -> str:
    return f"file:{quote(str(path))}?mode=ro"

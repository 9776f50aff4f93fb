"""A store as an older version has left it."""

import sqlite3
from contextlib import closing
from pathlib import Path

from engine.stores.local.database import Database
from engine.stores.local.schema import MIGRATIONS


def downgrade(store: Path, version: int) -> None:
    """Put the rows of a store's database, which nobody has open, into one of an older schema."""
    path, newer = store / "imgfs.db", store / "newer.db"
    path.rename(newer)
    Database(path, MIGRATIONS[:version]).close()
    with closing(sqlite3.connect(path)) as older:
        older.execute("ATTACH ? AS newer", (str(newer),))
        triggers = older.execute(
            "SELECT name, sql FROM main.sqlite_schema WHERE type = 'trigger'"
        ).fetchall()
        for name, _ in triggers:
            older.execute(f"DROP TRIGGER {name}")
        kept = "SELECT name FROM {}.sqlite_schema WHERE type = 'table'"
        both = f"{kept.format('main')} INTERSECT {kept.format('newer')}"
        for (table,) in older.execute(both):
            told = older.execute(f"PRAGMA main.table_info({table})").fetchall()
            columns = ", ".join(name for _, name, *_ in told)
            older.execute(
                f"INSERT INTO main.{table} ({columns}) SELECT {columns} FROM newer.{table}"
            )
        for _, statement in triggers:
            older.execute(statement)
        older.commit()
    newer.unlink()

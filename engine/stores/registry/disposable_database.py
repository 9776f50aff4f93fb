"""A database of what can be asked for again: one that is damaged is made anew, without a repair."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, TypeVar

from engine.closing import Closing
from engine.errors import StoreDamaged, StoreError
from engine.stores.local import forks
from engine.stores.local.database import SUFFIXES, Database, locked_directory

log = logging.getLogger(__name__)

_T = TypeVar("_T")


class DisposableDatabase(Closing):
    """The database at a path, created if necessary. Safe from any thread and process."""

    def __init__(self, path: Path, migrations: Sequence[Sequence[str]]) -> None:
        self._path = path
        self._migrations = migrations
        file = forks.file_at(path)
        try:
            self._database = Database(path, migrations)
        except StoreDamaged:
            self._remove(file)
            self._database = Database(path, migrations)

    def read(self, sql: str, parameters: Any = ()) -> list[Any]:
        """Return all rows of a query."""
        return self._using(lambda: self._database.read(sql, parameters))

    def write(self, sql: str, rows: Iterable[Sequence[object]]) -> None:
        """Execute a statement, which may be executed again, for each of the rows at once."""
        values = list(rows)

        def execute() -> None:
            with self._database.transaction() as connection:
                connection.executemany(sql, values)

        self._using(execute)

    def close(self) -> None:
        self._database.close()

    def _using(self, use: Callable[[], _T]) -> _T:
        """Use the database; make it anew, and use that, if it is damaged or gone."""
        file = forks.file_at(self._path)
        try:
            file = self._database.connection.file  # which another process may have replaced
            return use()
        except StoreDamaged:
            self._remove(file)
        except StoreError:
            if forks.file_at(self._path) is not None:
                raise
        Database(self._path, self._migrations).close()
        self._database.data_version()  # has all threads turn to the new file
        return use()

    def _remove(self, file: forks.File) -> None:
        """Remove a damaged file, unless another one has taken its place."""
        with locked_directory(self._path.parent):
            if forks.file_at(self._path) == file:
                log.warning("%s was damaged, and is made anew", self._path)
                for suffix in SUFFIXES:
                    self._path.with_name(self._path.name + suffix).unlink(missing_ok=True)

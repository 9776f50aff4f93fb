"""Which places in the tree of directories show something else than before, from every process.

The rows are written by triggers, in the transaction of what they tell; the last `CHANGES_KEPT` are
kept. So whoever remembers what stands at a path learns when to forget it.
"""

from engine.database import Database


class Changes:
    """The changes to the images behind `database`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def last(self) -> int:
        """The number of the last change that there was, 0 if there was none."""
        rows = self._database.read("SELECT seq FROM sqlite_sequence WHERE name = 'changes'")
        return int(rows[0][0]) if rows else 0

    def between(self, first: int, last: int) -> list[str] | None:
        """The paths that the changes behind number `first`, up to `last`, were at; None if not all
        of those are known still, or this is not the database that they were counted in.
        """
        rows = self._database.read(
            "SELECT path FROM changes WHERE number > ? AND number <= ?", (first, last)
        )
        return [path for (path,) in rows] if len(rows) == last - first else None

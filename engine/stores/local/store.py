"""The local store: SQLite and files in one directory, shared by any number of processes.

STORE/blobs/, ingest/    the content store (`content.py`, `ingests.py`)
STORE/layers/            what is known of the files in layers (`tables.py`)
STORE/imgfs.db           names, labels, leases and events (`database.py`, `schema.py`)
STORE/leases/            locked files of the leases of running processes (`leases.py`)
STORE/reserve            gives its space to a full disk (`reserve.py`)
STORE/names.lock         held while kernels keep names (`name_lock.py`)
STORE/repair.lock        held while a process repairs the store (`fsck/repair_lock.py`)
STORE/registry.db        there in the cache of a registry (`registry/sources.py`)
STORE/rebuild            there while the database is being rebuilt (`rebuild.py`)
STORE/version            the version of all this
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, suppress
from pathlib import Path
from typing import Final, Self

from engine.errors import StoreDamaged, StoreError, is_of_space
from engine.stores.local.content import LocalContent
from engine.stores.local.database import Database, locked_directory
from engine.stores.local.directory import VERSION, create_directory, has_version, open_directory
from engine.stores.local.events import LocalEvents
from engine.stores.local.files import sync_directory
from engine.stores.local.images import LocalImages
from engine.stores.local.leases import LocalLeases
from engine.stores.local.name_lock import LocalNameLock
from engine.stores.local.tables import LocalTables
from engine.stores.protocols import Store
from engine.stores.records import Garbage

CACHE_DATABASE: Final = "registry.db"
"""The file of a registry in the directory of its cache."""
_ROOM: Final = "free 1 MB on its disk, for example what is in its directory layers"


class LocalStore(Store):
    """A `Store` in a directory. Safe from any thread."""

    content: LocalContent
    tables: LocalTables
    images: LocalImages
    leases: LocalLeases
    events: LocalEvents
    supports_collection = True

    def __init__(self, directory: Path, enter: Callable[[Path], None]) -> None:
        """Use `open` or `create`; `enter` prepares the directory."""
        self.directory = directory
        self.location = str(directory)
        try:
            with ExitStack() as opened:
                enter(directory)
                if not has_version(directory):  # new, or interrupted while it was made
                    _write_version(directory)
                _check_database(directory)
                self.database = opened.enter_context(Database(directory / "imgfs.db"))
                self.content = LocalContent(directory, self.database)
                self.leases = LocalLeases(directory, self.database)
                opened.pop_all()
        except OSError as error:
            what = errno.ENOTDIR if error.errno == errno.EEXIST else error.errno or errno.EIO
            room = f"; {_ROOM}" if is_of_space(error) else ""
            reason = f"cannot be opened: {os.strerror(what)}{room}"
            raise StoreError(str(directory), reason) from error
        self.tables = LocalTables(directory)
        self.images = LocalImages(self.database)
        self.events = LocalEvents(self.database)
        self.name_lock = LocalNameLock(directory)

    @classmethod
    def open(cls, directory: Path) -> Self:
        """Open the store in a directory, which is left as it is if it is no store.

        Raise StoreMissing if there is none yet, StoreError if the directory is something else.
        """
        return cls(directory, open_directory)

    @classmethod
    def create(cls, directory: Path) -> Self:
        """Open the store in a directory, or make one if the directory is new or empty.

        Raise StoreError if it is something else.
        """
        return cls(directory, create_directory)

    @property
    def is_cache(self) -> bool:
        """Whether it is the cache of a registry, which has what images lack here."""
        return (self.directory / CACHE_DATABASE).exists()

    def transaction(self) -> AbstractContextManager[object]:
        """As `Store.transaction`; it is the store's one lock (`Database.transaction`)."""
        return self.database.transaction()

    def version(self) -> int:
        return self.database.data_version()

    def garbage(self) -> Iterator[Garbage]:
        from engine.stores.local.gc import Collector  # most commands collect nothing

        return Collector(self).plan()

    def collect(self) -> Iterator[Garbage]:
        from engine.stores.local.gc import Collector

        return Collector(self).collect()

    def close(self) -> None:
        self.name_lock.release()
        self.content.close()
        self.leases.close()
        self.database.close()


def _write_version(path: Path) -> None:
    """Write the version, and make the store and the directories on the way to it durable."""
    with locked_directory(path) as directory:
        with (path / "version").open("wb") as out:
            out.write(f"{VERSION}\n".encode())
            out.flush()
            os.fsync(out.fileno())
        (path / ".version").unlink(missing_ok=True)  # what an earlier imgfs left when it was killed
        os.fsync(directory)
    for parent in path.absolute().parents:
        with suppress(OSError):  # one that we may not read is not one that we have made
            sync_directory(parent)


def _check_database(path: Path) -> None:
    """Raise StoreDamaged for blobs without a database: a new one would hide them."""
    database = path / "imgfs.db"
    if _has_content(database) or not any(path.glob("blobs/*/*")):
        return
    with locked_directory(path):  # nobody replaces it now
        is_there = _has_content(database)
    if not is_there:
        reason = (
            "the database is missing or empty, the blobs are there: put it back,"
            " or run imgfs fsck --repair"
        )
        raise StoreDamaged(str(database), reason)


def _has_content(path: Path) -> bool:
    with suppress(FileNotFoundError):
        return path.stat().st_size > 0
    return False

"""The files of one ingest on disk.

    ingest/<id>/data    the bytes so far
    ingest/<id>/ref     JSON: ref, total, expected, started_at

The holder of the flock on `data` is the writer of the ingest. After a process takes the lock, it
checks that the file is still the one named `data`. That file is removed, or moved to become a blob,
only under its lock, after `ref` and before the directory.
"""

from __future__ import annotations

import fcntl
import json
import os
from contextlib import suppress
from pathlib import Path
from typing import Final

import msgspec

from engine.content.protocols import Status
from engine.content.writer import Record
from engine.errors import InvalidDigest, Unavailable
from engine.spec.digest import parse
from engine.stores.local.locks import is_locked

_DATA: Final = "data"
_REF: Final = "ref"


def hold(directory: Path, ref: str) -> int:
    """Return a locked descriptor of an ingest's data, created if necessary; raise Unavailable."""
    while True:
        is_new = False
        with suppress(FileExistsError):
            directory.mkdir(mode=0o700)
            is_new = True
        try:
            descriptor = _open_data(directory / _DATA)
        except FileNotFoundError:
            continue
        except OSError:
            _leave(directory)
            raise
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            current = _is_at(descriptor, directory / _DATA)
        except BlockingIOError:
            os.close(descriptor)
            raise Unavailable("ingest", ref) from None
        except OSError:
            if is_new:
                try_to_remove(directory)
            os.close(descriptor)
            raise
        if current:
            return descriptor
        os.close(descriptor)


def is_held(directory: Path) -> bool:
    """Return whether an ingest has a writer."""
    return is_locked(directory / _DATA)


def move(directory: Path, path: Path) -> None:
    """Move the data of an ingest that is held to `path`, and remove the rest."""
    (directory / _REF).unlink(missing_ok=True)
    (directory / _DATA).rename(path)
    _leave(directory)


def remove(directory: Path) -> None:
    """Remove the files of an ingest that is held."""
    (directory / _REF).unlink(missing_ok=True)
    (directory / _DATA).unlink(missing_ok=True)
    _leave(directory)


def try_to_remove(directory: Path) -> None:
    """Remove what can be removed of an ingest that is held."""
    with suppress(OSError):
        remove(directory)


def data_of(directory: Path) -> os.stat_result | None:
    """Return the status of the data, None if there is none."""
    try:
        return (directory / _DATA).lstat()
    except FileNotFoundError:
        return None


def status(directory: Path) -> Status | None:
    """Return the status of an ingest; None if it is incomplete or cannot be resumed."""
    record, data = read_record(directory), data_of(directory)
    return record.status(data.st_size, data.st_mtime) if record and data else None


def write_record(directory: Path, record: Record) -> None:
    """Write the properties of an ingest."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC
    descriptor = os.open(directory / _REF, flags, 0o600)
    with open(descriptor, "w", encoding="ascii") as file:
        json.dump(msgspec.structs.asdict(record), file)


def read_record(directory: Path) -> Record | None:
    """Return the properties of an ingest; None if they are absent or incomplete, since its writer
    died or is writing them.
    """
    try:
        fields = json.loads((directory / _REF).read_text("ascii"))
        expected = fields["expected"]
        return Record(
            str(fields["ref"]),
            int(fields["total"]),
            None if expected is None else parse(expected),
            float(fields["started_at"]),
        )
    except (FileNotFoundError, ValueError, LookupError, TypeError, AttributeError, InvalidDigest):
        return None


def _open_data(path: Path) -> int:
    flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
    try:
        return os.open(path, flags, 0o600)
    except PermissionError:
        # The writer died between `sync` and `move`.
        path.chmod(0o600)
        return os.open(path, flags, 0o600)


def _is_at(descriptor: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), path.lstat())
    except FileNotFoundError:
        return False


def _leave(directory: Path) -> None:
    # The next writer of the ref may have created its own data there.
    with suppress(OSError):
        directory.rmdir()

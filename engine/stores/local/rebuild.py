"""The file `rebuild` of a store whose database is being rebuilt by `imgfs fsck --repair`.

It is there from before the old database is moved away until the images of the new one have their
names again, whatever interrupts the repair. It keeps these names, with their targets. While it is
there, a file without a row may be a blob that has not got its row yet, and a blob that nothing
refers to may be a part of an image that is not listed yet: neither may be removed.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Final

import msgspec

from engine.errors import StoreError
from engine.stores.local.files import sync_directory

_FILE: Final = "rebuild"
_NEW: Final = ".rebuild"


def begin(root: Path, names: Mapping[str, str]) -> None:
    """Create the file, or replace it; it is durable when this returns. Raise OSError."""
    new = root / _NEW
    with new.open("wb") as out:
        out.write(msgspec.json.encode(names))
        out.flush()
        os.fsync(out.fileno())
    new.rename(root / _FILE)
    sync_directory(root)


def is_unfinished(root: Path) -> bool:
    """Return whether the database is being rebuilt, or a repair of it was interrupted."""
    return (root / _FILE).exists()


def check_finished(root: Path) -> None:
    """Raise StoreError if the database is being rebuilt."""
    if is_unfinished(root):
        reason = (
            "its database is being rebuilt;"
            " nothing is collected until imgfs fsck --repair has come to its end"
        )
        raise StoreError(str(root), reason)


def saved_names(root: Path) -> dict[str, str]:
    """Return the names to restore, with their targets; none if they cannot be read."""
    with suppress(FileNotFoundError, msgspec.DecodeError):
        return msgspec.json.decode((root / _FILE).read_bytes(), type=dict[str, str])
    return {}


def end(root: Path) -> None:
    """Remove the file, if it is there; raise OSError."""
    with suppress(FileNotFoundError):
        (root / _FILE).unlink()
        sync_directory(root)

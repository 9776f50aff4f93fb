"""The lock of `imgfs fsck --repair`: one process repairs a store at a time.

It is a flock on its own file in the store, which ends with the process that holds it.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from engine.errors import StoreBusy
from engine.stores.local.directory import open_directory
from engine.stores.local.locks import locked


@contextmanager
def repairing(root: Path) -> Iterator[None]:
    """Keep other repairs away, which could replace the database that this one is about to replace.

    Raise StoreBusy at once if another process repairs the store, and what `open_directory` raises.
    """
    open_directory(root)
    try:
        descriptor = locked(root / "repair.lock", os.O_CREAT, fcntl.LOCK_EX)
    except BlockingIOError as error:
        reason = "another imgfs fsck --repair is at work; let it come to its end"
        raise StoreBusy(str(root), reason) from error
    try:
        yield
    finally:
        os.close(descriptor)

"""The kernel's read-ahead on the mount, which matters without passthrough."""

import os
from contextlib import suppress
from pathlib import Path

_KIB = 1024
"""KiB of read-ahead: the maximum size of a request. The kernel's default is 128."""


def raise_read_ahead(mountpoint: Path) -> None:
    """Raise the read-ahead, so that fewer requests read more; do nothing without the privilege."""
    with suppress(OSError):
        device = os.stat(mountpoint).st_dev
        if os.major(device) == 0:  # a FUSE mount, not the disk below it if the mount has ended
            bdi = Path(f"/sys/class/bdi/0:{os.minor(device)}")
            (bdi / "read_ahead_kb").write_text(f"{_KIB}\n", encoding="ascii")

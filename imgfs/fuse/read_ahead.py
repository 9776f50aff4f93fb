"""How much the kernel asks for at a time where it cannot read blobs by itself."""

import os
from contextlib import suppress
from pathlib import Path

_KIB = 1024
"""The most that a request can be for; the kernel's own choice is 128."""


def raise_read_ahead(mountpoint: Path) -> None:
    """Let fewer requests bring more. Only root may; for others nothing changes."""
    with suppress(OSError):
        device = os.stat(mountpoint).st_dev
        if os.major(device) == 0:  # no disk, should the mount have ended already
            bdi = Path(f"/sys/class/bdi/0:{os.minor(device)}")
            (bdi / "read_ahead_kb").write_text(f"{_KIB}\n", encoding="ascii")

"""What is mounted on this machine, as far as it is ours."""

import os
import re
from pathlib import Path

_MOUNTINFO = Path("/proc/self/mountinfo")


def mountpoints() -> list[Path]:
    """Where stores are mounted, be their processes alive or not."""
    return parse(_MOUNTINFO.read_bytes())


def parse(mountinfo: bytes) -> list[Path]:
    """Where something of the type fuse.imgfs is mounted, as /proc/self/mountinfo has it."""
    lines = (line.partition(b" - ") for line in mountinfo.split(b"\n"))
    fields = (
        before.split(b" ")[4] for before, _, after in lines if after.startswith(b"fuse.imgfs ")
    )
    return [Path(os.fsdecode(re.sub(rb"\\([0-7]{3})", _octal, field))) for field in fields]


def _octal(escape: re.Match[bytes]) -> bytes:
    return bytes([int(escape[1], 8)])

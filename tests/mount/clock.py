"""A clock for a mount, which a test advances."""

import os
import sys
from pathlib import Path


class Clock:
    """The clock of the mount: the modification time of a file, in seconds."""

    def __init__(self, path: Path) -> None:
        self.path = path
        path.touch()
        self.now = 0.0
        self.advance(1000)

    @property
    def launcher(self) -> tuple[str, ...]:
        """The launcher of a mount with this clock."""
        return sys.executable, str(Path(__file__).with_name("with_clock.py")), str(self.path)

    def advance(self, seconds: float) -> None:
        self.now += seconds
        os.utime(self.path, (self.now, self.now))

"""What every area is given."""

import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from scripts.lib.bench.images import Images
from scripts.lib.bench.mounting import Mount, mounted
from scripts.lib.bench.peers import Peers
from scripts.lib.bench.results import Report
from scripts.lib.bench.turns import Contender, Contest, by_turns


@dataclass(frozen=True, slots=True)
class Bench:
    """`size` is the image's, `count` the number of images of the largest store; `scratch` is a
    directory on the disk of the images that is removed at the end.
    """

    images: Images
    peers: Peers
    report: Report
    scratch: Path
    size: str
    count: int
    rounds: int
    mount_options: Sequence[str]

    def contest(
        self, title: str, contenders: Sequence[Contender], size: int | None = None
    ) -> Contest:
        """Have it, and report it."""
        done = by_turns(title, self.rounds, contenders, size)
        self.report.contests.append(done)
        return done

    @contextmanager
    def place(self) -> Iterator[Path]:
        """A new directory on a disk that has nothing left to write."""
        path = self.scratch / "place"
        path.mkdir()
        os.sync()
        try:
            yield path
        finally:
            shutil.rmtree(path, ignore_errors=True)

    @contextmanager
    def mounted(self, store: Path) -> Iterator[Mount]:
        with mounted(store, self.scratch / "mnt", self.mount_options) as mount:
            self.report.passthrough = mount.passthrough
            yield mount

"""The context that every area receives."""

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
    """Images, peers and the report of one run.

    `size` is the size of the image, `count` the number of images in the largest store. `scratch` is
    a directory on the disk of the images, removed at the end.
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
        """Run a contest and add it to the report."""
        done = by_turns(title, self.rounds, contenders, size)
        self.report.contests.append(done)
        return done

    @contextmanager
    def place(self, name: str = "place") -> Iterator[Path]:
        """Return a new directory, on a disk that has no more pending writes."""
        path = self.scratch / name
        path.mkdir()
        os.sync()
        try:
            yield path
        finally:
            shutil.rmtree(path, ignore_errors=True)

    @contextmanager
    def mounted(self, store: Path | str) -> Iterator[Mount]:
        with mounted(store, self.scratch / "mnt", self.mount_options) as mount:
            self.report.passthrough = mount.passthrough
            yield mount

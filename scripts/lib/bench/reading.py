"""Read blobs and whole images through the mount, and the same bytes from a disk.

First means after a new mount, with the store's files in the page cache. Second is the run after
that, with what the kernel has cached of the mount.
"""

import mmap
import os
from collections.abc import Callable
from pathlib import Path
from random import Random

from scripts.lib.bench.bench import Bench
from scripts.lib.bench.images import NAME
from scripts.lib.bench.mounting import Mount
from scripts.lib.bench.results import Goal
from scripts.lib.bench.running import command, read_all, work
from scripts.lib.bench.turns import Contender, Contest, Sample

_DISK, _FIRST, _AGAIN = "disk", "imgfs, first", "imgfs, second"
_READERS = 8


def measure(bench: Bench) -> None:
    image = bench.images.image(bench.size)
    image.warm()
    blob = image.largest_blob
    size = (image.layout / blob).stat().st_size
    with bench.mounted(image.store) as mount:
        report = bench.report

        def compared(title: str, read: Callable[[Path], Sample], size: int) -> Contest:
            return bench.contest(title, _three(mount, image.layout, read), size)

        done = compared(
            "reading a blob, 1 MiB a read", lambda d: work(lambda: read_all(d / blob)), size
        )
        goal = Goal(0.95, 0.85, at_least=True)
        report.throughput(
            done, "repeated read of a blob ÷ plain read, throughput", _AGAIN, goal, _DISK
        )
        goal = Goal(0.9, 0.3, at_least=True)
        report.throughput(done, "first read, the same", _FIRST, goal, _DISK)
        done = compared(
            "tar of a blob | cat", lambda d: command(["tar", "-C", d, "-c", blob]), size
        )
        goal = Goal(0.9, 0.7, at_least=True)
        report.throughput(done, "first read, by tar", _FIRST, goal, _DISK)
        done = compared(
            "tar of the image | cat", lambda d: command(["tar", "-C", d, "-c", "."]), image.size
        )
        what = f"tar of the {bench.size} image ÷ the same of an OCI directory, time"
        report.time(done, f"{what}, first", _FIRST, Goal(1.15, 1.6), _DISK)
        report.time(done, f"{what}, second", _AGAIN, Goal(1.1, 1.15), _DISK)
        compared(
            "2,000 random reads of 4 KiB", lambda d: work(lambda: _random(d / blob)), 2000 << 12
        )
        compared("a blob by mmap", lambda d: work(lambda: _mapped(d / blob)), size)
        script = f'for i in $(seq {_READERS}); do cat "$0" >/dev/null & done; wait'
        compared(
            f"{_READERS} readers of a blob",
            lambda d: command(["sh", "-c", script, d / blob]),
            _READERS * size,
        )


def _three(mount: Mount, layout: Path, read: Callable[[Path], Sample]) -> list[Contender]:
    def first() -> Sample:
        mount.remount()
        return read(mount.path / NAME)

    return [
        Contender(_DISK, lambda: read(layout)),
        Contender(_FIRST, first),
        Contender(_AGAIN, lambda: read(mount.path / NAME)),
    ]


def _random(path: Path) -> None:
    random = Random(1)
    descriptor = os.open(path, os.O_RDONLY)
    try:
        size = os.fstat(descriptor).st_size
        for _ in range(2000):
            os.pread(descriptor, 4096, random.randrange(max(1, size - 4096)))
    finally:
        os.close(descriptor)


def _mapped(path: Path) -> None:
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ) as mapping:
        for offset in range(0, len(mapping), 1 << 20):
            bytes(mapping[offset : offset + (1 << 20)])

"""Stores of many images: mount, list, look up, memory; requests; the delay until a tag is seen."""

import os
import statistics
import time
from collections.abc import Callable
from pathlib import Path

from engine import names
from engine.stores.open import open_store
from engine.stores.protocols import Store
from scripts.lib.bench.bench import Bench
from scripts.lib.bench.images import NAME, name_of
from scripts.lib.bench.mounting import Mount, requests
from scripts.lib.bench.results import Goal, Row
from scripts.lib.bench.running import Daemon, call, command, work
from scripts.lib.bench.turns import Contender, Sample

_DISK, _FIRST, _AGAIN = "directories on disk", "imgfs, first", "imgfs, second"
_TAG = "seen:1"


def measure(bench: Bench) -> None:
    _starts(bench)
    _lists(bench)
    _requests(bench)
    _tags(bench)


def _starts(bench: Bench) -> None:
    few, many = "1 image", f"{bench.count:,} images"
    counts = dict.fromkeys([few, "1,000 images", many])

    def start(count: int) -> Callable[[], Sample]:
        store = bench.images.many(count)

        def once() -> Sample:
            mount = Mount(store, bench.scratch / "mnt")
            try:
                sample = command(mount.command)
                mount.attach()
                return Sample(sample.seconds, None, mount.daemon.memory(), sample.written)
            finally:
                mount.unmount()

        return once

    contenders = [Contender(name, start(int(name.split()[0].replace(",", "")))) for name in counts]
    done = bench.contest("mount, until it can be used", contenders)
    work = f"mount start with {bench.count:,} images ÷ with one"
    bench.report.time(done, work, many, Goal(1.2), few)


def _lists(bench: Bench) -> None:
    directories = bench.images.directories(bench.count)
    idle: list[int] = []
    listed: list[int] = []

    with bench.mounted(bench.images.many(bench.count)) as mount:

        def contenders(
            on_disk: Callable[[], Sample],
            on_mount: Callable[[Daemon], Sample],
        ) -> list[Contender]:
            def first() -> Sample:
                mount.remount()
                idle.append(mount.daemon.memory())
                sample = on_mount(mount.daemon)
                listed.append(mount.daemon.memory())
                return sample

            return [
                Contender(_DISK, on_disk),
                Contender(_FIRST, first),
                Contender(_AGAIN, lambda: on_mount(mount.daemon)),
            ]

        def ls(*options: str) -> list[Contender]:
            return contenders(
                lambda: command(["ls", *options, directories]),
                lambda daemon: command(["ls", *options, mount.path], daemon),
            )

        call("ls", "-l", directories)
        done = bench.contest(f"ls of {bench.count:,} images", ls())
        what = f"ls of {bench.count:,} images ÷ of as many directories on disk, first"
        bench.report.time(done, what, _FIRST, Goal(4), _DISK)
        rows = bench.report.rows
        after = statistics.median(listed) / 1e6
        rows.append(Row("daemon memory after that", after, Goal(150), "MB"))
        rows.append(
            Row("daemon memory after nothing", statistics.median(idle) / 1e6, Goal(45), "MB")
        )
        bench.contest(f"ls -l of {bench.count:,} images", ls("-l")[:2])
        middle = name_of(bench.count // 2)

        here, there = directories / middle, mount.path / middle
        look = contenders(
            lambda: work(lambda: os.stat(here)), lambda _: work(lambda: os.stat(there))
        )
        bench.contest("stat of one image", look)
        _, *inside = contenders(lambda: Sample(0), lambda _: work(lambda: _stat_all(there)))
        bench.contest("stat of every file of one image", inside)


def _requests(bench: Bench) -> None:
    """Count the requests that reach the daemon: the fewer, the faster."""
    image = bench.images.image(bench.size)
    files = sum(len(names) for _, _, names in os.walk(image.layout))
    with bench.mounted(image.store) as mount:
        tar = ["tar", "-C", str(mount.path / NAME), "-c", "."]
        for turn in ("first", "second"):
            found = requests(mount, lambda: command(tar))
            note = f"{files} files" if found is not None else "strace is not installed"
            what = f"requests to the daemon for a {turn} tar of the {bench.size} image"
            bench.report.rows.append(Row(what, found, None, "requests", note))


def _tags(bench: Bench) -> None:
    """Measure from the commit in another process until a polling reader sees the tag."""
    new: list[float] = []
    moved: list[float] = []
    store = bench.images.many(1000)
    with bench.mounted(store) as mount, open_store(str(store)) as opened:
        path = mount.path / _TAG
        for _ in range(bench.rounds):
            try:
                path.exists()
                names.tag(opened, name_of(0), _TAG)
                new.append(_until(path.exists))
                moved.append(_until_moved(opened, path / "index.json"))
            finally:
                names.remove(opened, _TAG)
                _until(lambda: not path.exists())
    for what, times in (("a new tag", new), ("a tag that has moved", moved)):
        value = statistics.median(times) * 1000
        bench.report.rows.append(Row(f"time until {what} is seen", value, None, "ms"))


def _stat_all(root: Path) -> None:
    for folder, _, files in os.walk(root):
        for name in files:
            os.stat(Path(folder, name))


def _until_moved(store: Store, index: Path) -> float:
    before = index.read_bytes()
    names.tag(store, name_of(1), _TAG)
    return _until(lambda: index.read_bytes() != before)


def _until(holds: Callable[[], bool]) -> float:
    began = time.perf_counter()
    while not holds():
        if time.perf_counter() - began > 30:
            raise TimeoutError("waited 30 s in vain for a tag to be seen")
    return time.perf_counter() - began

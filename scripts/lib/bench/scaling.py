"""Scaling: the same work on one core and on two, with more layers, and with more images and blobs.

A speed-up from one core to two tells the share of the work that is serial (Amdahl's law), and from
that what 16 cores would give. An exponent is the slope of the time over the number of things in a
double logarithmic plot: 1 is linear.
"""

import math
import os
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

from engine.stores.local.store import LocalStore
from scripts.lib.bench.bench import Bench
from scripts.lib.bench.images import NAME
from scripts.lib.bench.mounting import IMGFS
from scripts.lib.bench.results import Goal, Row
from scripts.lib.bench.running import command
from scripts.lib.bench.turns import Contender, Contest, Sample

_LAYERS = (1, 10, 100)
_MANY = 16
_SPEED_UP = Goal(1.7, at_least=True)


def measure(bench: Bench) -> None:
    _cores(bench)
    _layers(bench)
    _counts(bench)


def _cores(bench: Bench) -> None:
    """Measure each command on one core and on two."""
    available = sorted(os.sched_getaffinity(0))
    if len(available) < 2:
        bench.report.notes.append("scaling over cores: this machine has one core")
        return
    image = bench.images.image(bench.size, "gzip")
    image.warm()
    tree = bench.images.tree(bench.size)
    stored: list[str | Path] = ["--store", image.store]
    works: dict[str, Sequence[str | Path]] = {
        "save": [*stored, "save", "-q", NAME],
        "save --layout docker": [*stored, "save", "-q", "--layout", "docker", NAME],
        "fsck": [*stored, "fsck", "-q"],
        "fsck --deep": [*stored, "fsck", "-q", "--deep"],
    }
    fresh: dict[str, Sequence[str | Path]] = {
        "load": ["load", "-q", "-i", image.archive],
        "commit": ["commit", "-q", tree, NAME],
    }

    def contender(name: str, words: Sequence[str | Path], cores: int) -> Contender:
        pinned = ["taskset", "-c", ",".join(map(str, available[:cores])), *IMGFS]

        def once() -> Sample:
            if name not in fresh:
                return command([*pinned, *words])
            with bench.place("scaling") as place:
                return command([*pinned, "--store", place / "store", *words])

        return Contender(_on(name, cores), once)

    both = {**fresh, **works}
    contenders = [contender(name, both[name], cores) for name in both for cores in (1, 2)]
    done = bench.contest(f"{bench.size} gzip image, one core and two", contenders, image.size)
    for name in both:
        speed_up = done.ratio(_on(name, 1), _on(name, 2))
        goal = None if name == "save" else _SPEED_UP
        note = f"{_projected(speed_up):.1f} on {_MANY} cores, by the share that is serial"
        bench.report.rows.append(
            Row(f"imgfs {name}: speed-up, 1 to 2 cores", speed_up, goal, "×", note)
        )
        used = done.cores(_on(name, 2))
        goal = Goal(1.8, at_least=True) if name == "load" else None
        note = "processor time ÷ time, on 2 cores"
        bench.report.rows.append(Row(f"imgfs {name}: cores in use", used, goal, "cores", note))


def _layers(bench: Bench) -> None:
    """Measure load and save of the same bytes in more layers."""

    def load(count: int) -> Sample:
        with bench.place("scaling") as place:
            archive = bench.images.layered(bench.size, count).archive
            return command([*IMGFS, "--store", place / "store", "load", "-q", "-i", archive])

    def save(count: int) -> Sample:
        store = bench.images.layered(bench.size, count).store
        return command([*IMGFS, "--store", store, "save", "-q", NAME])

    for name, once in (("load", load), ("save", save)):
        done = _contest(bench, f"{name}, the same bytes in more layers", "layers", _LAYERS, once)
        _exponent(bench, f"imgfs {name} over the number of layers", done, _LAYERS)


def _counts(bench: Bench) -> None:
    """Measure listing, checking and collecting over the number of images and blobs."""
    counts = [max(1, bench.count // part) for part in (100, 10, 1)]

    def listing(count: int) -> Sample:
        return command([*IMGFS, "--store", bench.images.many(count), "images", "-q"])

    def fsck(count: int) -> Sample:
        return command([*IMGFS, "--store", bench.images.many(count), "fsck", "-q"])

    for name, once in (("images -q", listing), ("fsck", fsck)):
        done = _contest(bench, f"{name}, more images", "images", counts, once)
        _exponent(bench, f"imgfs {name} over the number of images", done, counts)
    done = _contest(bench, "gc, more blobs", "blobs", counts, lambda count: _gc(bench, count))
    _exponent(bench, "imgfs gc over the number of blobs", done, counts)
    most = counts[-1]
    files = [
        Contender("imgfs gc", lambda: _gc(bench, most)),
        Contender("rm -r", lambda: _rm(bench, most)),
    ]
    done = bench.contest(f"removing {most:,} blobs or files", files)
    what = f"imgfs gc of {most:,} blobs ÷ rm -r of as many files"
    bench.report.time(done, what, "imgfs gc", Goal(4), "rm -r")


def _gc(bench: Bench, blobs: int) -> Sample:
    with bench.place("scaling") as place:
        store = place / "store"
        shutil.copytree(bench.images.many(max(1, blobs // 2)), store)
        with LocalStore.open(store) as opened, opened.transaction():
            for image in opened.images.all():
                opened.images.delete(image.name)
                opened.images.forget(image.target.digest)
        os.sync()
        return command([*IMGFS, "--store", store, "gc", "-q"])


def _rm(bench: Bench, files: int) -> Sample:
    with bench.place("scaling") as place:
        shutil.copytree(bench.images.many(max(1, files // 2)) / "blobs", place / "blobs")
        os.sync()
        return command(["rm", "-r", place / "blobs"])


def _contest(
    bench: Bench, title: str, noun: str, counts: Sequence[int], once: Callable[[int], Sample]
) -> Contest:
    def contender(count: int) -> Contender:
        return Contender(f"{count:,} {noun}", lambda: once(count))

    return bench.contest(title, [contender(count) for count in counts])


def _exponent(bench: Bench, what: str, done: Contest, counts: Sequence[int]) -> None:
    points = [
        (math.log(count), math.log(done.seconds(name)))
        for count, name in zip(counts, done.samples, strict=True)
    ]
    middle = [sum(axis) / len(points) for axis in zip(*points, strict=True)]
    slope = sum((x - middle[0]) * (y - middle[1]) for x, y in points) / sum(
        (x - middle[0]) ** 2 for x, _ in points
    )
    bench.report.rows.append(
        Row(what, slope, Goal(1.1), "(exponent)", "of the medians; 1 is linear")
    )


def _projected(speed_up: float) -> float:
    """Return the speed-up on many cores, from that on two, by Amdahl's law."""
    parallel = min(1.0, max(0.0, 2 * (1 - 1 / speed_up)))
    return 1 / (1 - parallel + parallel / _MANY)


def _on(name: str, cores: int) -> str:
    return f"imgfs {name}, {cores} core{'s' * (cores > 1)}"

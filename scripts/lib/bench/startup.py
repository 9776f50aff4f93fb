"""Measure commands that have nothing to do but start."""

import sys
from pathlib import Path

from scripts.lib.bench.bench import Bench
from scripts.lib.bench.images import NAME
from scripts.lib.bench.mounting import IMGFS
from scripts.lib.bench.results import Goal
from scripts.lib.bench.running import command
from scripts.lib.bench.turns import Contender

_PYTHON = "python3 -c pass"
_COMMANDS = (
    ("images",),
    ("inspect", NAME),
    ("history", NAME),
    ("tag", NAME, NAME),
    ("save", "--help"),
    ("--help",),
)


def measure(bench: Bench) -> None:
    store = bench.images.image("small").store

    def contender(words: tuple[str, ...]) -> Contender:
        line: list[str | Path] = [*IMGFS, "--store", store, *words]
        return Contender(f"imgfs {' '.join(words)}", lambda: command(line))

    python = Contender(_PYTHON, lambda: command([sys.executable, "-c", "pass"]))
    done = bench.contest("starting", [python, *(contender(words) for words in _COMMANDS)])
    what = f"imgfs images on a small store ÷ {_PYTHON}"
    bench.report.time(done, what, "imgfs images", Goal(5), _PYTHON)

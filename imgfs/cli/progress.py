"""Progress of a long command: a bar on a terminal, JSON for programs, nothing in a pipe."""

import functools
import json
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import click

from engine.progress import Done, Progress, ignore

T = TypeVar("T")
_PAUSE = 0.1


def progress_options(command: Callable[..., T]) -> Callable[..., T]:
    """Take --progress and --quiet; hand on `progress`, one of "auto", "json" and "none"."""

    @click.option(
        "--progress",
        type=click.Choice(["auto", "json", "none"]),
        default="auto",
        help="A bar on a terminal (the default), or lines of JSON on standard error.",
    )
    @click.option("-q", "--quiet", is_flag=True, help="Show no progress, print no names.")
    @functools.wraps(command)
    def wrapped(progress: str, quiet: bool, **options: Any) -> T:
        return command(progress="none" if quiet else progress, quiet=quiet, **options)

    return wrapped


@contextmanager
def progress_of(verb: str, how: str) -> Iterator[Progress]:
    """What shows the progress of one archive; `verb` is "Loading" or "Saving"."""
    if how == "json":
        report = _Report(verb)
        yield report.tell
        report.end()
    elif how == "auto" and sys.stderr.isatty():
        with _bar(verb) as tell:
            yield tell
    else:
        yield ignore


class _Report:
    """Lines of JSON: `action`, `bytes` of `total` and `layers` of `all_layers` (null where nobody
    knows), `seconds`, `rate` in bytes a second, `remaining` in seconds or null.
    """

    def __init__(self, verb: str) -> None:
        self._action = verb.lower()
        self._began = time.monotonic()
        self._next = self._began
        self._last = Done(0)

    def tell(self, done: Done) -> None:
        self._last = done
        if time.monotonic() >= self._next:
            self.end()
            self._next = time.monotonic() + _PAUSE

    def end(self) -> None:
        done = self._last
        seconds = time.monotonic() - self._began
        rate = done.size / seconds if seconds else 0.0
        remaining = (done.total - done.size) / rate if done.total is not None and rate else None
        told = {
            "action": self._action,
            "bytes": done.size,
            "total": done.total,
            "layers": done.layers,
            "all_layers": done.all_layers,
            "seconds": round(seconds, 3),
            "rate": round(rate),
            "remaining": None if remaining is None else round(remaining, 3),
        }
        print(json.dumps(told), file=sys.stderr, flush=True)


@contextmanager
def _bar(verb: str) -> Iterator[Progress]:
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        DownloadColumn,
        TextColumn,
        TimeRemainingColumn,
        TransferSpeedColumn,
    )
    from rich.progress import Progress as Bar

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(),
        TextColumn("{task.fields[layers]}"),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
    )
    with Bar(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(verb, total=None, layers="")

        def tell(done: Done) -> None:
            bar.update(task, completed=done.size, total=done.total, layers=_layers(done))

        yield tell


def _layers(done: Done) -> str:
    """Layers in words: "layer 2/5", "2 layers" where nobody knows how many there are."""
    if done.all_layers is not None:
        return f"layer {done.layers}/{done.all_layers}" if done.all_layers else ""
    return f"{done.layers} layers" if done.layers else ""

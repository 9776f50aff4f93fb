"""Progress of a long command: a bar on a terminal, lines of JSON on request, otherwise nothing."""

import json
import sys
import time
from argparse import Namespace
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from engine.progress import Done, Progress, ignore
from imgfs.cli.support.command import Parser

_PAUSE = 0.1


def progress_options(parser: Parser) -> None:
    """Add --progress and --quiet."""
    progress_option(parser)
    parser.add_argument(
        "-q", "--quiet", action="store_true", help="Show no progress, print no names."
    )


def progress_option(parser: Parser) -> None:
    """Add --progress, to a command without --quiet."""
    parser.add_argument(
        "--progress",
        choices=("auto", "json", "none"),
        default="auto",
        help="A bar on a terminal (the default), or lines of JSON on standard error.",
    )


def how(args: Namespace) -> str:
    """Return how to show progress: "auto", "json" or "none"."""
    return "none" if args.quiet else str(args.progress)


@contextmanager
def progress_of(verb: str, shown: str, after: float = 0) -> Iterator[Progress]:
    """Provide a callback that shows progress; `verb` is "Loading", "Saving" or the like.

    A bar appears `after` so many seconds, so that short work does not wait for its libraries.
    """
    if shown == "json":
        report = _Report(verb)
        yield report.update
        report.end()
    elif shown == "auto" and sys.stderr.isatty():
        with ExitStack() as stack:
            yield _LateBar(verb, after, stack).update
    else:
        yield ignore


class _Report:
    """Lines of JSON: `action`, `bytes` of `total` and `layers` of `total_layers` (null if unknown),
    `seconds`, `rate` in bytes per second, `remaining` in seconds or null.
    """

    def __init__(self, verb: str) -> None:
        self._action = verb.lower()
        self._began = time.monotonic()
        self._next = self._began
        self._last = Done(0)

    def update(self, done: Done) -> None:
        self._last = done
        if time.monotonic() >= self._next:
            self.end()
            self._next = time.monotonic() + _PAUSE

    def end(self) -> None:
        done = self._last
        seconds = time.monotonic() - self._began
        rate = done.size / seconds if seconds else 0.0
        remaining = (done.total - done.size) / rate if done.total is not None and rate else None
        report = {
            "action": self._action,
            "bytes": done.size,
            "total": done.total,
            "layers": done.layers,
            "total_layers": done.total_layers,
            "seconds": round(seconds, 3),
            "rate": round(rate),
            "remaining": None if remaining is None else round(remaining, 3),
        }
        print(json.dumps(report), file=sys.stderr, flush=True)


class _LateBar:
    """A bar that appears with the first report after a time; `stack` removes it."""

    def __init__(self, verb: str, after: float, stack: ExitStack) -> None:
        self._verb = verb
        self._due = time.monotonic() + after
        self._stack = stack
        self._on_progress: Progress | None = None

    def update(self, done: Done) -> None:
        if self._on_progress is None:
            if time.monotonic() < self._due:
                return
            self._on_progress = self._stack.enter_context(_bar(self._verb))
        self._on_progress(done)


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
    console = Console(stderr=True)
    shares = sys.stdout.isatty()  # otherwise what is printed is for a file
    with Bar(*columns, console=console, transient=True, redirect_stdout=shares) as bar:
        task = bar.add_task(verb, total=None, layers="")

        def update(done: Done) -> None:
            bar.update(task, completed=done.size, total=done.total, layers=_layers(done))

        yield update


def _layers(done: Done) -> str:
    """Return the count of layers: "2/5 layers", or "2 layers" if the total is unknown; "" for work
    that counts none.
    """
    if not done.layers and done.total_layers is None:
        return ""
    total = done.layers if done.total_layers is None else done.total_layers
    of = "" if done.total_layers is None else f"/{total}"
    return f"{done.layers}{of} layer{'' if total == 1 else 's'}"

"""The steps of a commit: a line for each on a terminal, or the bytes of its layers as JSON."""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import msgspec

from engine.progress import Done, Progress, ignore
from imgfs.cli.support.common import human
from imgfs.cli.support.progress import progress_of

_PAUSE = 0.1


class Reports(msgspec.Struct, frozen=True):
    """Callbacks for the progress of a commit: its steps, and the bytes of its layers."""

    on_step: Callable[[str, int], None]
    on_bytes: Progress = ignore


@contextmanager
def steps(shown: str) -> Iterator[Reports]:
    """Provide callbacks that show progress; `shown` is "auto", "json" or "none"."""
    if shown == "json":
        with progress_of("Committing", shown) as on_bytes:
            yield Reports(_ignore_step, on_bytes)
    elif shown == "auto" and sys.stderr.isatty():
        lines = _Steps()
        try:
            yield Reports(lines.update, lines.expect)
        finally:
            lines.end()
    else:
        yield Reports(_ignore_step)


def _ignore_step(_step: str, _size: int) -> None:
    """Show nothing."""


class _Steps:
    def __init__(self) -> None:
        self._step = ""
        self._size = 0
        self._total = 0
        self._next = 0.0

    def update(self, step: str, size: int) -> None:
        if step != self._step:
            self.end()
            self._step, self._next = step, 0.0
        self._size = size
        if time.monotonic() >= self._next:
            self._show()
            self._next = time.monotonic() + _PAUSE

    def expect(self, done: Done) -> None:
        """Take the total of the bytes that a step reads."""
        self._total = done.total or 0

    def end(self) -> None:
        """End the line, with the last count on it."""
        if self._step:
            self._show()
            print(file=sys.stderr)

    def _show(self) -> None:
        total = f" of {human(self._total)}" if self._total > self._size else ""
        size = f" {human(self._size)}{total}" if self._size else ""
        print(f"\r{self._step}{size}\033[K", end="", file=sys.stderr, flush=True)

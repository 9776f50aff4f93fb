"""The steps of a long command on a terminal: a line for each, with the bytes read so far."""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from imgfs.cli.support.common import human

_PAUSE = 0.1


@contextmanager
def steps(quiet: bool) -> Iterator[Callable[[str, int], None]]:
    """Provide a callback that shows a step and its bytes so far, on a terminal only."""
    if quiet or not sys.stderr.isatty():
        yield lambda _step, _size: None
        return
    shown = _Steps()
    try:
        yield shown.update
    finally:
        shown.end()


class _Steps:
    def __init__(self) -> None:
        self._step = ""
        self._size = 0
        self._next = 0.0

    def update(self, step: str, size: int) -> None:
        if step != self._step:
            self.end()
            self._step, self._next = step, 0.0
        self._size = size
        if time.monotonic() >= self._next:
            self._show()
            self._next = time.monotonic() + _PAUSE

    def end(self) -> None:
        """End the line, with the last count on it."""
        if self._step:
            self._show()
            print(file=sys.stderr)

    def _show(self) -> None:
        size = f" {human(self._size)}" if self._size else ""
        print(f"\r{self._step}{size}\033[K", end="", file=sys.stderr, flush=True)

"""The threads that learn what is in layers, as many as there are cores."""

import os
from functools import cache
from threading import Lock
from typing import Final, Protocol

from engine.threads import Workers

_WAITING: Final = 2
"""The most layers that are begun and wait for a thread: some, so that a large one that arrives last
is not alone at the end, but few, since each occupies memory.
"""


class Pass(Protocol):
    """A pass over a layer, in steps that need no wait."""

    @property
    def is_begun(self) -> bool:
        """Whether a step has been made, so that the pass occupies memory."""
        ...

    @property
    def left(self) -> int:
        """The number of bytes that can be learnt now."""
        ...

    def step(self) -> bool:
        """Make a step; return whether another one can be made now."""
        ...


class LearningThreads:
    """Threads that make the next step of the pass that has most left, so that no layer is alone at
    the end; safe from any thread.
    """

    def __init__(self, count: int) -> None:
        self._workers = Workers(count)
        self._most = count + _WAITING
        self._lock = Lock()
        self._waiting: list[Pass] = []
        self._running = 0

    def begin(self, one: Pass) -> None:
        """Make the steps of a pass, each in its turn, until there is none that can be made."""
        with self._lock:
            self._waiting.append(one)
        self._workers.begin(self._work)

    @property
    def are_all_busy(self) -> bool:
        """Whether each of the threads has a layer."""
        return self._workers.are_all_busy

    def _work(self) -> None:
        one: Pass | None = None
        while (one := self._next(one)) is not None:
            goes_on = one.step()
            with self._lock:
                self._running -= 1
                if goes_on:
                    self._waiting.append(one)

    def _next(self, last: Pass | None) -> Pass | None:
        """Return the pass whose step is next, None if none waits; `last` is this thread's last one.

        As long as no more passes may begin, each thread completes one after the other.
        """
        with self._lock:
            begun = [one for one in self._waiting if one.is_begun]
            is_full = len(begun) < len(self._waiting) and self._running + len(begun) >= self._most

            def urgency(one: Pass) -> tuple[bool, bool, int]:
                return not one.left, is_full and one is last, one.left

            among = begun if is_full and begun else self._waiting
            chosen = max(among, key=urgency, default=None)
            if chosen is not None:
                self._waiting.remove(chosen)
                self._running += 1
            return chosen


def learning_threads() -> LearningThreads:
    """Return the threads of this process: not the shared ones, for whose work they wait."""
    return _threads(os.getpid())


@cache
def _threads(_pid: int) -> LearningThreads:
    """Return the threads of a process; a forked child has none of its parent's."""
    return LearningThreads(os.cpu_count() or 1)

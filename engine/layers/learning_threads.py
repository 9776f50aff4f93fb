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
    def is_urgent(self) -> bool:
        """Whether somebody waits for the outcome, or only the end is left."""
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
        self._begun: list[Pass] = []
        self._new: list[Pass] = []
        """Those that wait for their first step; there may be thousands."""
        self._running = 0

    def begin(self, one: Pass) -> None:
        """Make the steps of a pass, each in its turn, until there is none that can be made."""
        with self._lock:
            (self._begun if one.is_begun else self._new).append(one)
        self._workers.begin(self._work)

    def hurry(self, one: Pass) -> None:
        """Begin a pass that somebody waits for, if it is not begun, also if it is one too many."""
        with self._lock:
            if one in self._new:
                self._new.remove(one)
                self._begun.append(one)

    @property
    def are_all_busy(self) -> bool:
        """Whether each of the threads has a layer."""
        return self._workers.are_all_busy

    def _work(self) -> None:
        one: Pass | None = None
        while (one := self._next(one)) is not None:
            goes_on = False
            try:
                goes_on = one.step()
            finally:
                with self._lock:
                    self._running -= 1
                    if goes_on:
                        self._begun.append(one)

    def _next(self, last: Pass | None) -> Pass | None:
        """Return the pass whose step is next, None if none waits; `last` is this thread's last one.

        As long as no more passes may begin, each thread completes one after the other.
        """
        with self._lock:
            is_full = bool(self._new) and self._running + len(self._begun) >= self._most
            is_any_urgent = any(one.is_urgent for one in self._begun)

            def urgency(one: Pass) -> tuple[bool, bool, int]:
                return one.is_urgent, is_full and one is last, one.left

            only_begun = self._begun and (is_full or is_any_urgent)
            among = self._begun if only_begun else [*self._begun, *self._new]
            chosen = max(among, key=urgency, default=None)
            if chosen is not None:
                (self._begun if chosen in self._begun else self._new).remove(chosen)
                self._running += 1
            return chosen


def learning_threads() -> LearningThreads:
    """Return the threads of this process: not the shared ones, for whose work they wait."""
    return _threads(os.getpid())


@cache
def _threads(_pid: int) -> LearningThreads:
    """Return the threads of a process; a forked child has none of its parent's."""
    return LearningThreads(os.cpu_count() or 1)

"""The threads that learn what is in layers, as many as there are cores."""

import os
from collections.abc import Callable
from functools import cache
from threading import Lock

from engine.threads import Workers


class LearningThreads:
    """Threads that continue with the layer of which most is left, so that none is alone at the end;
    safe from any thread.
    """

    def __init__(self, count: int) -> None:
        self._workers = Workers(count)
        self._lock = Lock()
        self._waiting: list[tuple[Callable[[], int], Callable[[], None]]] = []

    def begin(self, work: Callable[[], None], left: Callable[[], int]) -> None:
        """Start `work` in one of the threads, in its turn; `left` returns what it has to do."""
        with self._lock:
            self._waiting.append((left, work))
        self._workers.begin(self._work)

    @property
    def are_all_busy(self) -> bool:
        """Whether each of the threads has a layer."""
        return self._workers.are_all_busy

    def _work(self) -> None:
        while (work := self._next()) is not None:
            work()

    def _next(self) -> Callable[[], None] | None:
        with self._lock:
            if not self._waiting:
                return None
            chosen = max(self._waiting, key=lambda waiting: waiting[0]())
            self._waiting.remove(chosen)
            return chosen[1]


def learning_threads() -> LearningThreads:
    """Return the threads of this process: not the shared ones, for whose work they wait."""
    return _threads(os.getpid())


@cache
def _threads(_pid: int) -> LearningThreads:
    """Return the threads of a process; a forked child has none of its parent's."""
    return LearningThreads(os.cpu_count() or 1)

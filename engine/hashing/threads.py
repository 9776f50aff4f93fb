"""Threads that do work which has bytes to hash, and hash for two pieces of work at a time.

A core hashes two streams by SHA-256 in the time of one. So work yields what it has to hash, and
waits until other work has something to hash as well, while its thread goes on with a third one.
"""

import os
from collections.abc import Callable, Iterator
from functools import cache
from threading import Lock
from typing import Final, Generic, Protocol, TypeVar

from engine.hashing.sha256 import AT_ONCE, Hash, update_both
from engine.hashing.updates import Hashing, Update
from engine.threads import Outcome, Workers

T = TypeVar("T")

_WAITING: Final = 2
"""The most works that are begun and wait for a thread: some, so that a large one that arrives last
is not alone at the end, but few, since each occupies memory.
"""
_LOOKED_AT: Final = 32
"""The number of new works of which the largest is next: there may be thousands."""


class Work(Protocol):
    """Work in parts, none of which waits for other work of the same threads."""

    @property
    def is_begun(self) -> bool:
        """Whether a part is done, so that the work occupies memory."""
        ...

    @property
    def is_urgent(self) -> bool:
        """Whether somebody waits for the outcome, or only the end is left."""
        ...

    @property
    def left(self) -> int:
        """The number of bytes that can be worked on now."""
        ...

    def parts(self) -> Iterator[Update | None]:
        """Do what can be done now; yield what is to be hashed before the work goes on, or None
        where other work may come first. Raise nothing.
        """
        ...


class HashingThreads:
    """Threads that do the next part of the work of which most is left, so that no work is alone at
    the end; safe from any thread.
    """

    def __init__(self, count: int) -> None:
        self._count = count
        self._workers = Workers(count)
        self._most = count + _WAITING
        self._lock = Lock()
        """Protects the rest."""
        self._begun: list[_Turns] = []
        """Those that wait for their next turn, the one whose turn ended last behind the others."""
        self._new: list[_Turns] = []
        """Those that wait for their first turn."""
        self._running: list[_Turns] = []
        """The others."""
        self._parked: _Turns | None = None
        """One that waits for other work that has something to hash."""
        self._is_closed = False

    def begin(self, work: Work) -> None:
        """Do the parts of the work, each in its turn, until there is none that can be done."""
        with self._lock:
            if work.is_begun:
                self._begun.insert(0, _Turns(work))
            else:
                self._new.append(_Turns(work))
        self._workers.enqueue(self._work)

    def submit(self, work: Hashing[T], size: int) -> Callable[[], T]:
        """Begin with `work` on so many bytes, which count as left until it ends; return a function
        that waits for it and returns or raises its outcome.
        """
        task = _Task(work, size)
        self.begin(task)
        return task.outcome.result

    def hurry(self, work: Work) -> None:
        """Begin with work that somebody waits for, also if it is one too many."""
        with self._lock:
            for one in self._new:
                if one.work is work:
                    self._new.remove(one)
                    self._begun.append(one)
                    return

    @property
    def are_all_busy(self) -> bool:
        """Whether each of the threads has work."""
        return self._workers.are_all_busy

    def close(self) -> None:
        """Stop the threads at the end of their turns; nobody may wait for an outcome any more."""
        with self._lock:
            dropped, self._begun, self._new = [*self._begun, *self._new], [], []
            self._is_closed = True
        dropped.clear()  # without the lock, since work may clean up
        self._workers.close()

    def _work(self) -> None:
        while (one := self._next()) is not None:
            if not one.has_update():
                self._recall()
            elif not self._hash(one):
                continue
            self._end_turn(one)

    def _hash(self, one: "_Turns") -> bool:
        """Hash what work has yielded, or a part of it; return False if it waits for other work."""
        with self._lock:
            other, self._parked = self._parked, None
            if other is None and self._may_wait(one):
                self._parked = one
                one.has_waited = True
                return False
        if other is None:
            one.hash.update(one.take(len(one.rest)))
        else:
            size = min(len(one.rest), len(other.rest))
            update_both(one.hash, one.take(size), other.hash, other.take(size))
            self._end_turn(other)
        return True

    def _may_wait(self, one: "_Turns") -> bool:
        """Return whether work may wait until other work has something to hash. The lock is held.

        One that would be alone at the end does not: of it more is left than a thread's share.
        """
        share = sum(other.work.left for other in (*self._running, *self._begun)) / self._count
        return (
            AT_ONCE > 1
            and self.are_all_busy
            and bool(self._begun or self._new)
            and not one.has_waited
            and one.work.left <= share
        )

    def _recall(self) -> None:
        """Let work no longer wait for other work, which may never have something to hash."""
        with self._lock:
            if self._parked is not None:
                self._running.remove(self._parked)
                self._begun.append(self._parked)
                self._parked = None

    def _end_turn(self, one: "_Turns") -> None:
        with self._lock:
            self._running.remove(one)
            if not one.is_over and not self._is_closed:
                self._begun.append(one)

    def _next(self) -> "_Turns | None":
        """Return the work whose turn is next, None if none waits.

        As long as no more may begin, one is completed after the other.
        """
        with self._lock:
            is_full = bool(self._new) and len(self._running) + len(self._begun) >= self._most
            is_any_urgent = any(one.work.is_urgent for one in self._begun)
            last = self._begun[-1] if is_full and self._begun else None

            def urgency(one: _Turns) -> tuple[bool, bool, int]:
                return one.work.is_urgent, one is last, one.work.left

            only_begun = self._begun and (is_full or is_any_urgent)
            among = self._begun if only_begun else [*self._begun, *self._new[:_LOOKED_AT]]
            chosen = max(among, key=urgency, default=None)
            if chosen is None:
                chosen, self._parked = self._parked, None
                return chosen
            (self._begun if chosen in self._begun else self._new).remove(chosen)
            self._running.append(chosen)
            wakes_another = not self.are_all_busy and (self._begun or self._new)
        if wakes_another:
            self._workers.enqueue(self._work)
        return chosen


class _Turns:
    """Work in its turns, and what it has yielded that is to be hashed."""

    hash: Hash

    def __init__(self, work: Work) -> None:
        self.work = work
        self.rest = memoryview(b"")
        self.is_over = False
        self.has_waited = False
        """Whether it has waited for other work since it yielded the rest."""
        self._parts = work.parts()

    def has_update(self) -> bool:
        """Do the next part unless something of the last one is to be hashed; return whether there
        is something to hash.
        """
        if not self.rest:
            update = next(self._parts, self)
            self.is_over = update is self
            if isinstance(update, Update):
                self.hash, self.rest = update
                self.has_waited = False
        return bool(self.rest)

    def take(self, size: int) -> memoryview:
        """Take the next bytes that are to be hashed."""
        data, self.rest = self.rest[:size], self.rest[size:]
        return data


class _Task(Generic[T]):
    """Work with an outcome."""

    is_urgent = False

    def __init__(self, work: Hashing[T], size: int) -> None:
        self.outcome = Outcome[T]()
        self.is_begun = False
        self.left = size
        self._work = work

    def parts(self) -> Iterator[Update | None]:
        """Do the work, and set its outcome."""
        self.is_begun = True
        try:
            result = yield from self._work
        except BaseException as error:
            self.outcome.fail(error)
        else:
            self.outcome.succeed(result)


def hashing_threads() -> HashingThreads:
    """Return the threads of this process, as many as cores: not the shared ones, for whose work
    they wait.
    """
    return _threads(os.getpid())


@cache
def _threads(_pid: int) -> HashingThreads:
    """Return the threads of a process; a forked child has none of its parent's."""
    return HashingThreads(os.cpu_count() or 1)

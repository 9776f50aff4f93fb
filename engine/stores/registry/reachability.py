"""Whether a registry answers: what is cached does not wait for one that does not."""

from __future__ import annotations

import time
from collections.abc import Callable
from threading import Event, Lock, Thread
from typing import Final

import msgspec

_AWAY_SECONDS: Final = 10.0
"""Seconds after a failure within which no further request is made."""
_FRESH_SECONDS: Final = 5.0
"""Seconds after an answer within which the registry is believed to be there."""


class _Probe(msgspec.Struct, frozen=True):
    begun_at: float
    has_ended: Event


class Reachability:
    """The last answers of a registry, or their lack. Safe from any thread."""

    def __init__(
        self, ask: Callable[[], bool], clock: Callable[[], float] = time.monotonic
    ) -> None:
        """`ask` makes a request, and returns whether there was an answer."""
        self._ask = ask
        self._clock = clock
        self._lock = Lock()
        self._away_until = float("-inf")
        self._fresh_until = float("-inf")
        self._probe: _Probe | None = None

    @property
    def is_away(self) -> bool:
        """Whether the registry did not answer a moment ago."""
        return self._clock() < self._away_until

    def note(self, is_answer: bool) -> None:
        """Note that the registry has answered, or that it has not."""
        now = self._clock()
        with self._lock:
            self._fresh_until = now + _FRESH_SECONDS if is_answer else float("-inf")
            self._away_until = float("-inf") if is_answer else now + _AWAY_SECONDS

    def is_reachable(self, seconds: float) -> bool:
        """Return whether the registry answers, as far as is known so many seconds after it was
        asked; it is asked once for all callers.
        """
        with self._lock:
            now = self._clock()
            if self.is_away or now < self._fresh_until:
                return not self.is_away
            probe = self._probe
            if probe is None:
                probe = self._probe = _Probe(now, Event())
                Thread(target=self._run, args=(probe,), name="probe", daemon=True).start()
        return probe.has_ended.wait(max(0.0, probe.begun_at + seconds - now)) and not self.is_away

    def _run(self, probe: _Probe) -> None:
        try:
            self.note(self._ask())
        finally:
            with self._lock:
                self._probe = None
            probe.has_ended.set()

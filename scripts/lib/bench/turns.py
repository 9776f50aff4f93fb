"""Contenders that do the same work by turns (A B C A B C …), and what is made of their times.

A ratio is the median of the ratios of each round: what disturbs the machine for a while then
disturbs both of a pair.
"""

import statistics
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Sample:
    """One run: seconds in all and until the first byte of output, and bytes: the peak of memory,
    and what was written to disk. None is what was not measured.
    """

    seconds: float
    first_byte: float | None = None
    memory: int | None = None
    written: int | None = None


@dataclass(frozen=True, slots=True)
class Contender:
    """`once` prepares, does the work, measures it, and cleans up."""

    name: str
    once: Callable[[], Sample]


@dataclass(frozen=True, slots=True)
class Contest:
    """What came of one piece of work: every contender's samples, a round at the same place in each;
    `size` is how many bytes the work is about, if that is a sensible question.
    """

    title: str
    samples: Mapping[str, Sequence[Sample]]
    size: int | None = None

    def seconds(self, name: str) -> float:
        return statistics.median(sample.seconds for sample in self.samples[name])

    def first_byte(self, name: str) -> float | None:
        return _median(sample.first_byte for sample in self.samples[name])

    def memory(self, name: str) -> int | None:
        return max((s.memory for s in self.samples[name] if s.memory is not None), default=None)

    def written(self, name: str) -> int | None:
        found = _median(sample.written for sample in self.samples[name])
        return None if found is None else int(found)

    def ratio(self, name: str, reference: str) -> float:
        """How many times as long `name` needs."""
        pairs = zip(self.samples[name], self.samples[reference], strict=True)
        return statistics.median(ours.seconds / theirs.seconds for ours, theirs in pairs)

    def fastest(self, names: Iterable[str]) -> str | None:
        """Of those that took part; None if none did."""
        return min((n for n in names if n in self.samples), key=self.seconds, default=None)

    def slowest(self, names: Iterable[str]) -> str | None:
        return max((n for n in names if n in self.samples), key=self.seconds, default=None)


def by_turns(
    title: str, rounds: int, contenders: Sequence[Contender], size: int | None = None
) -> Contest:
    samples: dict[str, list[Sample]] = {contender.name: [] for contender in contenders}
    for number in range(rounds):
        for contender in contenders:
            say(f"{title}: {contender.name} ({number + 1} of {rounds})")
            samples[contender.name].append(contender.once())
    return Contest(title, samples, size)


def say(what: str) -> None:
    """What is being done, for whoever waits at a terminal."""
    if sys.stderr.isatty():
        print(f"\r\033[K{what[:78]}", end="", file=sys.stderr, flush=True)


def _median(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return statistics.median(known) if known else None

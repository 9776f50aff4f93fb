"""Contenders that do the same work in turns (A B C A B C …), and the statistics of their times.

A ratio is the median of the ratios of all rounds, so a temporary disturbance of the machine affects
both sides of a ratio. A contender that takes more than 30 s runs once, and that run counts for all
rounds.
"""

import statistics
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

_LONG = 30
"""Seconds above which a contender runs once."""


@dataclass(frozen=True, slots=True)
class Sample:
    """One run: seconds in all and until the first byte of output; bytes of peak memory and bytes
    written to disk; seconds of processor time on all cores. None means not measured.
    """

    seconds: float
    first_byte: float | None = None
    memory: int | None = None
    written: int | None = None
    processor: float | None = None


@dataclass(frozen=True, slots=True)
class Contender:
    """A way to do the work: `once` prepares, works, measures, and cleans up."""

    name: str
    once: Callable[[], Sample]


@dataclass(frozen=True, slots=True)
class Contest:
    """The samples of every contender, in the order of the rounds.

    `size` is the number of bytes that the work is about, if there is one.
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

    def cores(self, name: str) -> float | None:
        """Return the processor time divided by the time: how many cores were busy."""
        return _median(
            sample.processor and sample.processor / sample.seconds for sample in self.samples[name]
        )

    def ratio(self, name: str, reference: str) -> float:
        """Return the median, over all rounds, of the time of `name` divided by `reference`'s."""
        pairs = zip(self.samples[name], self.samples[reference], strict=True)
        return statistics.median(ours.seconds / theirs.seconds for ours, theirs in pairs)

    def fastest(self, names: Iterable[str]) -> str | None:
        """Return the fastest of those that took part, or None."""
        return min((n for n in names if n in self.samples), key=self.seconds, default=None)

    def slowest(self, names: Iterable[str]) -> str | None:
        return max((n for n in names if n in self.samples), key=self.seconds, default=None)


def by_turns(
    title: str, rounds: int, contenders: Sequence[Contender], size: int | None = None
) -> Contest:
    """Measure each contender once in each round, in their order."""
    samples: dict[str, list[Sample]] = {contender.name: [] for contender in contenders}
    for number in range(rounds):
        for contender in contenders:
            found = samples[contender.name]
            if found and found[0].seconds > _LONG:
                found.append(found[0])
                continue
            say(f"{title}: {contender.name} ({number + 1} of {rounds})")
            found.append(contender.once())
    return Contest(title, samples, size)


def say(what: str) -> None:
    """Show the current step to a user at a terminal."""
    if sys.stderr.isatty():
        print(f"\r\033[K{what[:78]}", end="", file=sys.stderr, flush=True)


def _median(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return statistics.median(known) if known else None

"""The results of an area: contests, and rows that compare a figure with its goal."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from scripts.lib.bench.turns import Contest


@dataclass(frozen=True, slots=True)
class Goal:
    """The goal with kernel passthrough, and the one without it if that differs."""

    passthrough: float
    otherwise: float | None = None
    at_least: bool = False

    def bound(self, passthrough: bool) -> float:
        return self.passthrough if passthrough or self.otherwise is None else self.otherwise

    def is_met(self, value: float, passthrough: bool) -> bool:
        bound = self.bound(passthrough)
        return value >= bound if self.at_least else value <= bound


@dataclass(frozen=True, slots=True)
class Row:
    """A figure: a ratio, unless `unit` is set. It is None if it could not be measured. `note` gives
    the reason, or what the figure is compared with.
    """

    work: str
    value: float | None
    goal: Goal | None = None
    unit: str = ""
    note: str = ""


@dataclass(slots=True)
class Report:
    """The results so far; `passthrough` is what the mounts reported of it."""

    rows: list[Row] = field(default_factory=list)
    contests: list[Contest] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    passthrough: str | None = None

    def time(self, contest: Contest, work: str, ours: str, goal: Goal, against: str | None) -> None:
        """Add a row for the time of `ours` divided by that of `against`, if that took part."""
        value = None if against is None else contest.ratio(ours, against)
        note = "no such peer is installed" if against is None else against
        self.rows.append(Row(work, value, goal, note=note))

    def throughput(self, contest: Contest, work: str, ours: str, goal: Goal, against: str) -> None:
        """Add a row for the throughput of `ours` divided by that of `against`."""
        self.rows.append(Row(work, 1 / contest.ratio(ours, against), goal, note=against))

    @property
    def has_passthrough(self) -> bool:
        return (self.passthrough or "").startswith("on")


def names_of(contest: Contest, prefixes: Sequence[str]) -> list[str]:
    """Return the contenders that belong to one of these tools."""
    return [name for name in contest.samples if name.startswith(tuple(prefixes))]

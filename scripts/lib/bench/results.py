"""What an area hands back: contests, and rows that set a figure beside its goal."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from scripts.lib.bench.turns import Contest


@dataclass(frozen=True, slots=True)
class Goal:
    """What is wished for with kernel passthrough and without it, if that is something else."""

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
    """A figure: a ratio, unless `unit` says what it is. None is what could not be measured, `note`
    says why, or against what it is.
    """

    work: str
    value: float | None
    goal: Goal | None = None
    unit: str = ""
    note: str = ""


@dataclass(slots=True)
class Report:
    """What has been found so far; `passthrough` is what the mounts told of it."""

    rows: list[Row] = field(default_factory=list)
    contests: list[Contest] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    passthrough: str | None = None

    def time(self, contest: Contest, work: str, ours: str, goal: Goal, against: str | None) -> None:
        """A row for how long `ours` takes in terms of `against`, if that took part."""
        value = None if against is None else contest.ratio(ours, against)
        note = "no such peer is installed" if against is None else against
        self.rows.append(Row(work, value, goal, note=note))

    def throughput(self, contest: Contest, work: str, ours: str, goal: Goal, against: str) -> None:
        """A row for how much `ours` gets done in terms of `against`."""
        self.rows.append(Row(work, 1 / contest.ratio(ours, against), goal, note=against))

    @property
    def has_passthrough(self) -> bool:
        return (self.passthrough or "").startswith("on")


def names_of(contest: Contest, prefixes: Sequence[str]) -> list[str]:
    """The contenders that belong to one of these tools."""
    return [name for name in contest.samples if name.startswith(tuple(prefixes))]

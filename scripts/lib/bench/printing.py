"""Print reports as text, as JSON, and as Markdown for docs/measurements.md."""

import json
import os
import platform
import subprocess
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Protocol

from scripts.lib.bench.results import Report, Row
from scripts.lib.bench.turns import Contest

_INTRODUCTION = """\
This is the output of `scripts/bench --markdown`. [performance.md](performance.md) says how to read
it, and what limits each row."""


@dataclass(frozen=True, slots=True)
class Circumstances:
    """When, where and how a run measures."""

    date: str
    machine: str
    load: float
    size: str
    rounds: int

    def __str__(self) -> str:
        return (
            f"{self.date}; {self.machine}; load average {self.load:.1f} at the beginning; "
            f"size {self.size}, {self.rounds} rounds"
        )


def circumstances(size: str, rounds: int) -> Circumstances:
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    machine = (
        f"{_processor()}, {os.cpu_count()} cores, {memory:.0f} GiB, Linux {platform.release()}, "
        f"{_filesystem(Path.cwd())}, Python {platform.python_version()}"
    )
    today = datetime.now(UTC).date().isoformat()
    return Circumstances(today, machine, os.getloadavg()[0], size, rounds)


class Printer(Protocol):
    """A form of the output. Each method returns text to print, which may be empty."""

    def begin(self, where: Circumstances) -> str: ...

    def area(self, name: str, report: Report) -> str: ...

    def end(self) -> str: ...


class Text:
    """Tables in columns, area by area."""

    def begin(self, where: Circumstances) -> str:
        return str(where)

    def area(self, name: str, report: Report) -> str:
        parts = [f"\n[{name}]", *_notes(report)]
        if report.rows:
            parts.append(_plain(*_goals(report)))
        parts += [f"\n{contest.title}\n{_plain(*_contest(contest))}" for contest in report.contests]
        return "\n".join(parts)

    def end(self) -> str:
        return ""


class Markdown:
    """A document with a section for each area: docs/measurements.md."""

    def begin(self, where: Circumstances) -> str:
        return f"# Measurements\n\n{_INTRODUCTION}\n\n{where}."

    def area(self, name: str, report: Report) -> str:
        parts = [f"\n## {name.capitalize()}", *(f"{note}." for note in _notes(report))]
        if report.rows:
            parts.append(_marked(*_goals(report)))
        parts += [
            f"{_title(contest)}:\n\n{_marked(*_contest(contest))}" for contest in report.contests
        ]
        return "\n\n".join(parts)

    def end(self) -> str:
        return ""


class Json:
    """One object for the whole run, at its end."""

    def __init__(self) -> None:
        self._where: dict[str, object] = {}
        self._passthrough: str | None = None
        self._notes: list[str] = []
        self._rows: list[dict[str, object]] = []
        self._contests: list[dict[str, object]] = []

    def begin(self, where: Circumstances) -> str:
        self._where = asdict(where)
        return ""

    def area(self, name: str, report: Report) -> str:
        self._passthrough = report.passthrough or self._passthrough
        self._notes += report.notes
        self._rows += [{"area": name, **_row(row, report)} for row in report.rows]
        self._contests += [{"area": name, **_samples(done)} for done in report.contests]
        return ""

    def end(self) -> str:
        found = {
            **self._where,
            "passthrough": self._passthrough,
            "notes": self._notes,
            "rows": self._rows,
            "contests": self._contests,
        }
        return json.dumps(found, indent=2)


def _notes(report: Report) -> list[str]:
    used = [] if report.passthrough is None else [f"passthrough: {report.passthrough}"]
    return used + report.notes


def _row(row: Row, report: Report) -> dict[str, object]:
    return {
        **asdict(row),
        "goal": row.goal and row.goal.bound(report.has_passthrough),
        "met": _is_met(row, report),
        "goals": row.goal and asdict(row.goal),
    }


def _samples(contest: Contest) -> dict[str, object]:
    return {
        "title": contest.title,
        "bytes": contest.size,
        "contenders": {
            name: {
                "median_seconds": contest.seconds(name),
                "first_byte_seconds": contest.first_byte(name),
                "memory_bytes": contest.memory(name),
                "written_bytes": contest.written(name),
                "samples": [asdict(sample) for sample in samples],
            }
            for name, samples in contest.samples.items()
        },
    }


_Table = tuple[Sequence[str], Sequence[Sequence[str]]]


def _goals(report: Report) -> _Table:
    """Return the rows, each with both goals and whether the applicable one is met."""
    header = ("work", "found", "goal", "without passthrough", "met", "against")
    return header, [
        (
            row.work,
            _figure(row.value, row.unit),
            _goal(row, row.goal.passthrough if row.goal else None),
            _goal(row, row.goal.otherwise if row.goal else None),
            {True: "yes", False: "**no**", None: ""}[_is_met(row, report)],
            row.note,
        )
        for row in report.rows
    ]


def _contest(contest: Contest) -> _Table:
    """Return the medians of all contenders, and their times relative to the first one's."""
    names = list(contest.samples)
    header = ("", "median", f"÷ {names[0]}", "MB/s", "first byte", "memory", "written")
    rows = []
    for name in names:
        seconds = contest.seconds(name)
        rows.append(
            (
                name,
                _seconds(seconds),
                f"{contest.ratio(name, names[0]):.2f}",
                "" if contest.size is None else f"{contest.size / seconds / 1e6:.0f}",
                _seconds(contest.first_byte(name)),
                _megabytes(contest.memory(name)),
                _megabytes(contest.written(name)),
            )
        )
    return header, rows


def _is_met(row: Row, report: Report) -> bool | None:
    if row.goal is None or row.value is None:
        return None
    return row.goal.is_met(row.value, report.has_passthrough)


def _figure(value: float | None, unit: str) -> str:
    if value is None:
        return "–"
    text = f"{value:.1f}" if unit else f"{value:.2f}" if value >= 0.1 else f"{value:.1g}"
    return f"{value:.0f} {unit}" if unit == "requests" else f"{text} {unit}".strip()


def _goal(row: Row, bound: float | None) -> str:
    if row.goal is None or bound is None:
        return ""
    return f"{'≥' if row.goal.at_least else '≤'} {bound:g} {row.unit}".strip()


def _seconds(value: float | None) -> str:
    if value is None:
        return ""
    return f"{value:.2f} s" if value >= 1 else f"{value * 1000:.3g} ms"


def _megabytes(value: int | None) -> str:
    return "" if value is None else f"{value / 1e6:.0f} MB"


def _title(contest: Contest) -> str:
    size = "" if contest.size is None else f" ({contest.size / 1e6:.0f} MB)"
    return f"{contest.title[:1].upper()}{contest.title[1:]}{size}"


def _plain(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [[cell.replace("**", "") for cell in line] for line in (header, *rows)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join(
        "  ".join(
            cell.ljust(width) if number == 0 else cell.rjust(width)
            for number, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in lines
    )


def _marked(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [header, ["---", *("---:" for _ in header[1:])], *rows]
    cells = (" | ".join(cell.replace("|", "\\|") for cell in line) for line in lines)
    return "\n".join(f"| {line} |" for line in cells)


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def _filesystem(path: Path) -> str:
    words = ["findmnt", "--noheadings", "--output", "FSTYPE", "--target", str(path)]
    return subprocess.run(words, capture_output=True, check=False, text=True).stdout.strip()

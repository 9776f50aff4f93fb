"""Tests of the progress of long commands on a terminal."""

import io
import sys

import pytest

from engine.progress import Done
from imgfs.cli.support.steps import steps


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def shown(monkeypatch: pytest.MonkeyPatch, out: io.StringIO, how: str = "auto") -> list[str]:
    """Return the lines that are visible at the end."""
    monkeypatch.setattr(sys, "stderr", out)
    with steps(how) as reports:
        reports.on_step("exporting layers", 0)
        reports.on_bytes(Done(1_000_000, 5_000_000))
        reports.on_step("exporting layers", 1_000_000)
        reports.on_step("exporting layers", 4_200_000)
        reports.on_step("naming to app:1", 0)
    lines = out.getvalue().split("\n")
    return [line.split("\r")[-1].removesuffix("\033[K") for line in lines]


def test_each_step_has_a_line_with_its_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    lines = shown(monkeypatch, Terminal(newline=""))
    assert lines == ["exporting layers 4.2MB of 5MB", "naming to app:1", ""]


def test_pipes_and_quiet_show_no_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    assert shown(monkeypatch, io.StringIO()) == [""]
    assert shown(monkeypatch, Terminal(), how="none") == [""]

"""Tests of the progress of long commands on a terminal."""

import io
import sys

import pytest

from imgfs.cli.support.steps import steps


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def shown(monkeypatch: pytest.MonkeyPatch, out: io.StringIO, quiet: bool = False) -> list[str]:
    """Return the lines that are visible at the end."""
    monkeypatch.setattr(sys, "stderr", out)
    with steps(quiet) as tell:
        tell("exporting layers", 0)
        tell("exporting layers", 1_000_000)
        tell("exporting layers", 4_200_000)
        tell("naming to app:1", 0)
    lines = out.getvalue().split("\n")
    return [line.split("\r")[-1].removesuffix("\033[K") for line in lines]


def test_each_step_has_a_line_with_its_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    lines = shown(monkeypatch, Terminal(newline=""))
    assert lines == ["exporting layers 4.2MB", "naming to app:1", ""]


def test_pipes_and_quiet_show_no_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    assert shown(monkeypatch, io.StringIO()) == [""]
    assert shown(monkeypatch, Terminal(), quiet=True) == [""]

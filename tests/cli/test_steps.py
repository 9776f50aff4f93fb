"""Progress of a long command on a terminal."""

import io
import sys

import pytest

from imgfs.cli.support.steps import steps


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def shown(monkeypatch: pytest.MonkeyPatch, out: io.StringIO, quiet: bool = False) -> list[str]:
    """The lines that somebody sees who looks at the end."""
    monkeypatch.setattr(sys, "stderr", out)
    with steps(quiet) as tell:
        tell("exporting layers", 0)
        tell("exporting layers", 1_000_000)
        tell("exporting layers", 4_200_000)
        tell("naming to app:1", 0)
    lines = out.getvalue().split("\n")
    return [line.split("\r")[-1].removesuffix("\033[K") for line in lines]


def test_a_line_for_each_step_with_its_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    lines = shown(monkeypatch, Terminal(newline=""))
    assert lines == ["exporting layers 4.2MB", "naming to app:1", ""]


def test_nothing_in_a_pipe_and_on_request(monkeypatch: pytest.MonkeyPatch) -> None:
    assert shown(monkeypatch, io.StringIO()) == [""]
    assert shown(monkeypatch, Terminal(), quiet=True) == [""]

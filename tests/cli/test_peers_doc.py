"""What `docs/peers.md` shows is what happens: its first commands, and then each section's."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

PAGE = Path(__file__).parents[2] / "docs" / "peers.md"
PRELUDE = f'umask 022; shopt -s expand_aliases; imgfs() {{ "{sys.executable}" -m imgfs "$@"; }}\n'
MARK = "--- the next command ---"


def console(section: str) -> list[tuple[str, list[str]]]:
    """The commands of a section, each with the lines that it prints."""
    blocks = re.findall(r"^```console\n(.*?)^```$", section, re.MULTILINE | re.DOTALL)
    steps: list[tuple[str, list[str]]] = []
    for line in "".join(blocks).splitlines():
        if line.startswith("$ "):
            steps.append((line[2:], []))
        else:
            steps[-1][1].append(line)
    return steps


def printed(commands: list[str], folder: Path) -> list[list[str]]:
    """The lines that each command prints, in one shell."""
    script = PRELUDE + "".join(f"{command}\necho '{MARK}'\n" for command in commands)
    done = subprocess.run(
        ["bash", "-c", script],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(PAGE.parents[1]), "LC_ALL": "C"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        check=False,
    )
    parts = done.stdout.decode().split(f"{MARK}\n")
    assert parts.pop() == ""
    return [part.splitlines() for part in parts]


def timeless(lines: list[str]) -> list[str]:
    """Without the numbers that the clock makes."""
    return [re.sub(r'("(?:seconds|rate|remaining)": )[\d.]+', r"\1…", line) for line in lines]


FIRST, *SECTIONS = re.split(r"^## ", PAGE.read_text(), flags=re.MULTILINE)


def test_the_page_has_its_ten_points() -> None:
    assert len(SECTIONS) == 10
    assert all(console(section) for section in SECTIONS)


@pytest.mark.skipif(os.geteuid() != 0, reason="the owner of files is a part of the digests")
@pytest.mark.parametrize("section", SECTIONS, ids=lambda text: text.split("\n")[0])
def test_a_section_prints_what_it_says(section: str, tmp_path: Path) -> None:
    if "$ skopeo " in section and shutil.which("skopeo") is None:
        pytest.skip("skopeo is not installed")
    steps = console(FIRST + section)
    found = printed([command for command, _ in steps], tmp_path)
    for (command, expected), lines in zip(steps, found, strict=True):
        assert (command, timeless(lines)) == (command, timeless(expected))

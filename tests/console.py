"""Runs what a page of the documentation shows.

A `console` block has commands (`$ …`) and what they print, to stdout and stderr. A page is run from
its top in one directory, and filled in with what was printed.
"""

import re
import subprocess
from collections.abc import Mapping
from pathlib import Path

_BLOCK = re.compile(r"(?<=^```console\n)(.*?)(?=^```$)", re.DOTALL | re.MULTILINE)
_DIGEST = re.compile(r"\b(?:[0-9a-f]{64}|[0-9a-f]{12})\b")
_TIMING = re.compile(r'"(seconds|rate|remaining)": [0-9.]+')


def run_page(page: str, directory: Path, environment: Mapping[str, str]) -> str:
    """Return the page with the output of its commands, all of which have been run."""

    def block(match: re.Match[str]) -> str:
        commands = [line for line in match[1].splitlines() if line.startswith("$ ")]
        return "".join(f"{line}\n{_output(line[2:], directory, environment)}" for line in commands)

    return _BLOCK.sub(block, page)


def comparable(page: str) -> str:
    """A page whose digests are numbered as they come, and which has no times: on another machine
    the owner of the files is another, so digests differ, but which of them are the same does not.
    """
    known: dict[str, str] = {}

    def number(match: re.Match[str]) -> str:
        short = match[0][:12]
        return known.setdefault(short, f"#{len(known)}")

    return _DIGEST.sub(number, _TIMING.sub(r'"\1": …', page))


def _output(command: str, directory: Path, environment: Mapping[str, str]) -> str:
    done = subprocess.run(
        ["bash", "-c", command],
        cwd=directory,
        env=dict(environment),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    return done.stdout

"""Run the examples of docs/peers.md."""

import os
import shutil
import sys
from pathlib import Path

import pytest

from tests.console import comparable, run_page

PROJECT = Path(__file__).parents[2]


@pytest.mark.skipif(shutil.which("skopeo") is None, reason="no skopeo")
def test_the_examples_of_the_page_print_what_it_shows(tmp_path: Path) -> None:
    (tmp_path / "bin").mkdir()
    imgfs = tmp_path / "bin" / "imgfs"
    imgfs.write_text(f'#!/bin/sh\nPYTHONPATH={PROJECT} exec {sys.executable} -m imgfs "$@"\n')
    imgfs.chmod(0o755)
    work = tmp_path / "work"
    work.mkdir()
    environment = {
        **os.environ,
        "PATH": f"{imgfs.parent}:{os.environ['PATH']}",
        "IMGFS_STORE": str(work / "store"),
    }
    page = (PROJECT / "docs" / "peers.md").read_text()
    assert comparable(run_page(page, work, environment)) == comparable(page)

"""Tests of the search for processes that have a file open."""

import os
import subprocess
from pathlib import Path

import pytest

from imgfs import mounts
from imgfs.imports.open_files import is_open


@pytest.mark.parametrize(("mode", "found"), [("rb", False), ("wb", True), ("r+b", True)])
def test_a_process_with_a_file_open_for_writing_is_found(
    tmp_path: Path, mode: str, found: bool
) -> None:
    path = tmp_path / "import" / f"caf\udce9-{os.getpid()}.tar"
    path.parent.mkdir()
    path.touch()
    with path.open(mode) as file, subprocess.Popen(["cat"], stdin=subprocess.PIPE, stdout=file):
        assert is_open(f"import/{path.name}", None) is found
        assert not is_open(f"other/{path.name}", None)
    assert not is_open(f"import/{path.name}", None)


def test_a_file_of_another_file_system_is_another_file(tmp_path: Path) -> None:
    path = tmp_path / "import" / f"{os.getpid()}.tar"
    path.parent.mkdir()
    around = [mount for mount in mounts.mounts() if tmp_path.resolve().is_relative_to(mount.path)]
    device = max(reversed(around), key=lambda mount: len(mount.path.parts)).device
    with path.open("wb") as file, subprocess.Popen(["cat"], stdin=subprocess.PIPE, stdout=file):
        assert is_open(f"import/{path.name}", device)
        assert not is_open(f"import/{path.name}", "0:0")

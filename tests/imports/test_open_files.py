"""Tests of the search for processes that have a file open."""

import subprocess
from pathlib import Path

import pytest

from imgfs.imports.open_files import is_open


@pytest.mark.parametrize(("mode", "found"), [("rb", False), ("wb", True), ("r+b", True)])
def test_a_process_with_a_file_open_for_writing_is_found(
    tmp_path: Path, mode: str, found: bool
) -> None:
    path = tmp_path / "import" / "caf\udce9.tar"
    path.parent.mkdir()
    path.touch()
    with path.open(mode) as file, subprocess.Popen(["cat"], stdin=subprocess.PIPE, stdout=file):
        assert is_open(f"import/{path.name}") is found
        assert not is_open(f"other/{path.name}")
    assert not is_open(f"import/{path.name}")

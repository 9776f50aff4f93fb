"""`engine.files`."""

import os
from pathlib import Path

import pytest

from engine.files import write_at


def test_all_bytes_are_written_where_each_call_takes_a_few(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pwrite = os.pwrite
    monkeypatch.setattr(
        os, "pwrite", lambda descriptor, data, offset: pwrite(descriptor, data[:3], offset)
    )
    path = tmp_path / "file"
    with path.open("wb") as file:
        write_at(file.fileno(), b"0123456789", 4)
    assert path.read_bytes() == b"\0\0\0\0" + b"0123456789"

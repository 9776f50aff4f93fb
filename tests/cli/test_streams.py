"""Tests of enlarged pipes."""

import fcntl
import io
import os
from pathlib import Path

from imgfs.cli.support.streams import widen


def test_a_pipe_is_enlarged() -> None:
    read_end, write_end = os.pipe()
    with open(read_end, "rb") as source, open(write_end, "wb") as sink:
        assert widen(sink) is sink
        assert fcntl.fcntl(source, fcntl.F_GETPIPE_SZ) == 1 << 20


def test_other_files_are_left_alone(tmp_path: Path) -> None:
    memory = io.BytesIO(b"bytes")
    assert widen(memory).read() == b"bytes"
    with open(tmp_path / "file", "wb") as file:
        assert widen(file) is file

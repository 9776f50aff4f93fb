"""Tests of the progress of long commands."""

import io
import json
import os
import re
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from engine.progress import Done
from imgfs.cli.support.progress import progress_of
from tests import archives
from tests.archives import ImageParts
from tests.cli.command import Command

APP = ImageParts(layers=[archives.layer("app"), archives.layer("shared")])
ARCHIVE = archives.docker_archive((APP, ["app:1"]))
DONE = [Done(1000, 4000, 0, 2), Done(3000, 4000, 1, 2), Done(4000, 4000, 2, 2)]


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def last(said: bytes) -> dict[str, object]:
    """Return the last line of a report, without its times."""
    reported = json.loads(said.splitlines()[-1])
    return {k: v for k, v in reported.items() if k not in ("seconds", "rate", "remaining")}


@pytest.mark.parametrize("archive", [ARCHIVE, archives.oci_archive((APP, "app:1"), gzipped=True)])
def test_load_reports_progress_as_json(imgfs: Command, archive: bytes) -> None:
    done = imgfs("load", "-q", "--progress", "json", stdin=archive)
    assert (done.status, done.err) == (0, b"")
    for _ in ("new", "known"):
        done = imgfs("load", "--progress", "json", stdin=archive)
        assert last(done.err) == {
            "action": "loading",
            "bytes": len(archive),
            "total": None,
            "layers": 2,
            "total_layers": None,
        }


@pytest.mark.parametrize("layout", ["combined", "docker"])
def test_save_reports_progress_as_json(
    imgfs: Command, stock: Callable[..., None], layout: str
) -> None:
    stock(ARCHIVE)
    done = imgfs("save", "--progress", "json", "--layout", layout, "app:1")
    assert done.status == 0
    assert last(done.err) == {
        "action": "saving",
        "bytes": len(done.out),
        "total": len(done.out),
        "layers": 2,
        "total_layers": 2,
    }


def test_a_commit_reports_the_bytes_of_its_layers_as_json(imgfs: Command, tmp_path: Path) -> None:
    root = tmp_path / "root"
    root.mkdir()
    (root / "whole").write_bytes(bytes(1000))
    os.utime(root / "whole", (1, 1))
    (root / "again").hardlink_to(root / "whole")
    done = imgfs("commit", "--progress", "json", root, "app:1")
    first = json.loads(done.err.splitlines()[0])
    assert (first["bytes"], first["total"]) == (3072, 3072)  # two headers, the content and the end
    assert last(done.err) == {
        "action": "committing",
        "bytes": 3072,
        "total": 3072,
        "layers": 1,
        "total_layers": 1,
    }
    done = imgfs("commit", "-q", "--progress", "json", root, "app:2")
    assert (done.status, done.err) == (0, b"")


def test_looks_at_layers_that_have_no_table_report_progress_as_json(
    imgfs: Command, stock: Callable[..., None], store: Path
) -> None:
    stock(ARCHIVE)
    for command in (("diff", "app:1"), ("inspect", "--root", "app:1")):
        shutil.rmtree(store / "layers")
        done = imgfs(*command, "--progress", "json")
        assert done.status == 0
        assert last(done.err)["action"] == "reading"
        assert last(done.err)["bytes"] == last(done.err)["total"] == len(APP.layers[1])


def test_a_terminal_shows_a_progress_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setenv("COLUMNS", "100")
    monkeypatch.setenv("TERM", "xterm")
    with progress_of("Saving", "auto") as tell:
        for done in DONE:
            tell(done)
    shown = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", terminal.getvalue())
    assert "4.0/4.0 kB 2/2 layers" in shown


def test_short_work_shows_no_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    with progress_of("Collecting", "auto", after=3600) as tell:
        tell(Done(1))
    assert terminal.getvalue() == ""


def test_gc_reports_progress_as_json(imgfs: Command, stock: Callable[..., None]) -> None:
    stock(ARCHIVE)
    imgfs("rm", "app:1")
    done = imgfs("gc", "--progress", "json", "--format", "json")
    assert done.status == 0
    reported = last(done.err)
    assert (reported["action"], reported["bytes"]) == ("collecting", json.loads(done.out)["freed"])


@pytest.mark.parametrize("how", ["none", "auto"])
def test_a_pipe_gets_no_progress(monkeypatch: pytest.MonkeyPatch, how: str) -> None:
    pipe = io.StringIO()
    monkeypatch.setattr(sys, "stderr", pipe)
    with progress_of("Saving", how) as tell:
        for done in DONE:
            tell(done)
    assert pipe.getvalue() == ""

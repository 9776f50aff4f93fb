"""The file `.imgfs/events`."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests import archives
from tests.archives import ImageParts
from tests.mounts import IMGFS, Mounted, run, started, write
from tests.waiting import wait_until

ARCHIVE = archives.docker_archive((ImageParts(), ["app:1"]))


def actions(data: bytes) -> list[str]:
    return [json.loads(line)["Action"] for line in data.splitlines()]


def test_an_open_events_file_shows_later_events(mounted: Mounted) -> None:
    log = mounted.path / ".imgfs" / "events"
    assert log.read_bytes() == b""
    mounted.load(ARCHIVE)
    assert actions(log.read_bytes()) == ["load", "tag"]
    assert log.stat().st_size == len(log.read_bytes())
    with log.open("rb") as opened:
        assert actions(opened.read()) == ["load", "tag"]
        run(*IMGFS, "--store", mounted.store, "tag", "app:1", "app:2")
        assert actions(opened.read()) == ["tag"], "an open file shows what another process does"


def test_tail_follows_the_events(mounted: Mounted) -> None:
    log = mounted.path / ".imgfs" / "events"
    command = ("tail", "-n", "+1", "-s", "0.05", "-f", log)
    with started(*command, stdout=subprocess.PIPE) as tail:
        assert tail.stdout is not None
        mounted.load(ARCHIVE)
        assert actions(tail.stdout.readline() + tail.stdout.readline()) == ["load", "tag"]
        os.rmdir(mounted.path / "app:1")
        assert actions(tail.stdout.readline()) == ["untag"]


def test_a_failed_load_is_an_event(mounted: Mounted) -> None:
    log = mounted.path / ".imgfs" / "events"
    with pytest.raises(OSError, match="Bad message"):
        mounted.load(ARCHIVE[:-20_000])
    wait_until(lambda: log.read_bytes() != b"", "the event is written")
    (event,) = map(json.loads, log.read_bytes().splitlines())
    assert (event["Action"], event["Actor"]["ID"]) == ("load-failed", "")
    attributes = event["Actor"]["Attributes"]
    assert attributes == {"name": "x.tar", "error": mounted.report()["error"]}
    assert run(*IMGFS, "--store", mounted.store, "events", "--since", "1h", "--until", "0s").stdout


def test_a_failure_that_cannot_be_logged_leaves_the_mount_alone(
    mount: Callable[..., Mounted],
) -> None:
    launcher = sys.executable, str(Path(__file__).with_name("without_events.py"))
    mounted = mount(launcher=launcher)
    directory = mounted.drop / "app/blobs/sha256"
    directory.mkdir(parents=True)
    with pytest.raises(OSError, match="Input/output"):
        write(directory / ("0" * 64), b"other bytes")
    with pytest.raises(OSError, match="Bad message"):
        mounted.load(ARCHIVE[:-20_000])
    mounted.load(ARCHIVE, "y.tar")
    assert "app:1" in mounted.names()

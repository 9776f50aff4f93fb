"""Tests of `imgfs events`."""

import json
import subprocess
import time
from collections.abc import Callable

import pytest

from engine.spec import rfc3339
from tests import archives
from tests.archives import ImageParts
from tests.cli.command import Command, Done, refusal, succeeded

ARCHIVE = archives.docker_archive((ImageParts(), ["app:1"]))
LONG = ("9" * 5000, f"{'9' * 5000}h", f"0.{'9' * 5000}h1d")


def actions(out: bytes) -> list[str]:
    return [json.loads(line)["Action"] for line in out.splitlines()]


def utc(nanoseconds: int) -> str:
    """Return RFC 3339 text."""
    seconds, fraction = divmod(nanoseconds, 10**9)
    return f"{rfc3339.text(seconds)[:-1]}.{fraction:09}Z"


def test_past_events_are_printed(inside: Callable[..., Done], stock: Callable[..., None]) -> None:
    stock(ARCHIVE)
    succeeded(inside("tag", "app:1", "app:2"))
    for since in ("0", "1h", "1970-01-01T00:00:00Z"):
        done = succeeded(inside("events", "--since", since, "--until", str(time.time() + 0.001)))
        assert actions(done.out) == ["load", "tag", "tag"]
    assert succeeded(inside("events", "--since", "0", "--until", "1h")).out == b""
    assert succeeded(inside("events", "--until", "0s")).out == b"", "only what is new"


def test_events_are_resumed_at_the_nanosecond(
    inside: Callable[..., Done], stock: Callable[..., None]
) -> None:
    stock(ARCHIVE)
    *_, last = succeeded(inside("events", "--since", "0", "--until", "0s")).lines
    nano = json.loads(last)["timeNano"]

    def found(*arguments: str) -> list[str]:
        return actions(succeeded(inside("events", *arguments)).out)

    assert found("--since", utc(nano), "--until", "0s") == ["tag"]
    assert found("--since", utc(nano + 1), "--until", "0s") == []
    assert found("--since", "0", "--until", utc(nano - 1)) == ["load"]
    assert found("--since", "0001-01-01T00:00:00Z", "--until", utc(nano)) == ["load", "tag"]
    assert found("--since", "9999-12-31T23:59:59-01:00", "--until", "0s") == []


def test_new_events_are_printed_as_they_happen(imgfs: Command) -> None:
    succeeded(imgfs("load", stdin=ARCHIVE))
    with imgfs.start("events", "--since", "0", stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        out = process.stdout
        try:
            assert actions(out.readline() + out.readline()) == ["load", "tag"]
            succeeded(imgfs("rm", "app:1"))
            assert actions(out.readline() + out.readline()) == ["untag", "delete"]
            process.terminate()
            assert process.wait(30) == 143
        finally:
            process.kill()


@pytest.mark.parametrize("text", ["", "soon", "1d", "2024-13-01T00:00:00Z", "-1", "٣", *LONG])
def test_invalid_times_are_refused(inside: Callable[..., Done], text: str) -> None:
    assert "expected RFC 3339" in refusal(inside("events", "--since", text, "--until", "0s"), 2)


def test_numbers_of_18_digits_are_times(
    inside: Callable[..., Done], stock: Callable[..., None]
) -> None:
    stock(ARCHIVE)
    number = "9" * 18
    assert succeeded(inside("events", "--since", number, "--until", "0s")).out == b""
    done = succeeded(inside("events", "--since", f"{number}h", "--until", "0s"))
    assert actions(done.out) == ["load", "tag"]
    assert len(succeeded(inside("images", "-f", f"until={number}")).lines) == 2

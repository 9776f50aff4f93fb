"""Long names: programs get them complete, a table on a terminal cuts them."""

import os
import pty
from collections.abc import Callable
from pathlib import Path

import pytest

from engine.errors import BrokenArchive, InvalidReference, NotFound
from tests import archives
from tests.archives import ImageParts
from tests.cli.command import Command, Done, refusal, succeeded

DOMAIN = f"{'.'.join(['d' * 63] * 3)}.example:65535"
PATH = f"{'p' * 120}/{'q' * 134}"
TAG = "t" * 128
NAME = f"{DOMAIN}/{PATH}:{TAG}"
COMMAND = f"RUN {'c' * 500}"
APP = ImageParts(extra={"history": [{"created_by": COMMAND, "comment": "m" * 500}]})
ARCHIVE = archives.oci_archive((APP, NAME))


@pytest.fixture
def loaded(inside: Callable[..., Done], tmp_path: Path) -> Done:
    (tmp_path / "x.tar").write_bytes(ARCHIVE)
    return succeeded(inside("load", tmp_path / "x.tar"))


def on_a_terminal(imgfs: Command, *arguments: str) -> str:
    """Return what a command prints on a terminal."""
    ours, theirs = pty.openpty()
    process = imgfs.start(*arguments, stdout=theirs)
    os.close(theirs)
    shown = b""
    try:
        while data := os.read(ours, 4096):
            shown += data
    except OSError:  # Linux reports so that the other side is closed
        pass
    os.close(ours)
    assert process.wait() == 0
    return shown.decode()


def test_load_prints_long_names_complete(loaded: Done) -> None:
    assert len(PATH) == 255
    assert loaded.lines == [f"Loaded image: {NAME}"]


@pytest.mark.usefixtures("loaded")
@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        (["images"], [f"{DOMAIN}/{PATH}", TAG]),
        (["images", "--no-trunc"], [f"{DOMAIN}/{PATH}", TAG]),
        (["images", "--format", "json"], [NAME]),
        (["inspect", NAME], [NAME]),
        (["history", NAME], [COMMAND, "m" * 500]),
        (["history", "--format", "json", NAME], [COMMAND, "m" * 500]),
        (["rm", NAME], [f"Untagged: {NAME}\n"]),
    ],
    ids=lambda value: " ".join(value[:3])[:30],
)
def test_a_pipe_gets_long_names_complete(
    inside: Callable[..., Done], arguments: list[str], parts: list[str]
) -> None:
    reported = succeeded(inside(*arguments)).out.decode()
    assert "…" not in reported
    assert all(part in reported for part in parts)


@pytest.mark.usefixtures("loaded")
@pytest.mark.parametrize(
    ("command", "expected"),
    [("images", f"{DOMAIN}/{PATH}"[:300]), (f"history {NAME}", COMMAND[:59])],
    ids=["images", "history"],
)
def test_a_table_on_a_terminal_cuts_long_names(imgfs: Command, command: str, expected: str) -> None:
    assert f"{expected}…" in on_a_terminal(imgfs, *command.split())
    assert "…" not in on_a_terminal(imgfs, *command.split(), "--no-trunc")


@pytest.mark.parametrize(
    "command", ["images", "inspect", "history", "rm", "save", "tag {} x", "tag {}"]
)
def test_an_error_has_long_names_complete(
    inside: Callable[..., Done], stock: Callable[..., None], command: str
) -> None:
    stock()
    words = [word.format(NAME) for word in command.split()]
    assert NAME in refusal(inside(*words, *([] if "{} " in command else [NAME])))


DIGEST = f"{NAME}@sha512:{'0' * 128}"


@pytest.mark.parametrize(
    "error",
    [
        NotFound("image", DIGEST),
        InvalidReference(DIGEST, "digest", f"expected the digest {'0' * 71}"),
        BrokenArchive("manifest.json", str(InvalidReference(DIGEST, "tag", "invalid tag"))),
    ],
    ids=lambda error: type(error).__name__,
)
def test_an_error_has_the_longest_name_complete(error: Exception) -> None:
    assert DIGEST in str(error)
